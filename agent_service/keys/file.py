"""Parses the file of keys, `API_KEYS_FILE`, and reports all its problems.

    keys:
      - id: ci-2026                # as it appears in logs and in `secret.public_id_of`
        hash: sha256:…             # or `hashes`, two at most while the secret is changed:
        hashes: [{hash: sha256:…, not_after: 2026-07-01T00:00:00Z}, {hash: sha256:…}]
        identity: spiffe://…/*     # instead of hashes: a client certificate's, in full or up to a /*; or dns:host.name
        tenant: acme
        scopes: [tasks.run, tasks.read]
        agents: [assistant]        # "*" means all; none if it is missing
        tools: ["*"]               # likewise
        not_after: 2027-01-01T00:00:00Z
        disabled: false

A problem says what is allowed and never repeats a value: any misplaced value may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agent_service.errors import ConfigError
from agent_service.keys.base import Principal, Scope
from agent_service.keys.identity import valid_name
from agent_service.keys.ring import DEFAULT_ID, HASHES_MAX, Key, SecretHash
from agent_service.keys.secret import PREFIX, parse_hash, public_id_of
from agent_service.reloading import read_bytes
from agent_service.text.files import Unusable, decoded
from agent_service.text.ids import is_id
from agent_service.text.paths import dotted
from agent_service.text.violations import in_words
from agent_service.text.yaml_document import Location, UnreadableYamlError, YamlDocument, read_yaml

_TELLABLE = re.compile(r"[a-z_]{1,32}", re.ASCII)


def _is_name(text: str) -> str:
    if not is_id(text):
        raise ValueError("must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    if text.startswith(PREFIX):
        raise ValueError("must not be a secret")
    return text


def _is_name_or_all(text: str) -> str:
    return text if text == "*" else _is_name(text)


def _is_id(text: str) -> str:
    if text == DEFAULT_ID:
        raise ValueError("must be another id: this one belongs to the key in API_KEY")
    return _is_name(text)


def _digest(value: Any) -> bytes:
    digest = parse_hash(value) if isinstance(value, str) else None
    if digest is None:
        raise ValueError("must be sha256: and 64 lower-case hex digits, as `agent-service keys new` prints it")
    return digest


def _is_not_empty(scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    if not scopes:
        raise ValueError("must not be empty")
    return scopes


def parse_instant(value: Any) -> datetime:
    """Check a date and a time with its zone: `2026-07-01T00:00:00Z`.

    Raises:
        ValueError: the value has another form.
    """
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError("must be a date and a time with its zone, such as 2026-07-01T00:00:00Z")
    return instant


_Name = Annotated[str, AfterValidator(_is_name)]
_NameOrAll = Annotated[str, AfterValidator(_is_name_or_all)]
_Digest = Annotated[bytes, BeforeValidator(_digest)]
_Instant = Annotated[datetime, BeforeValidator(parse_instant)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


class _HashEntry(_Strict):
    hash: _Digest = Field(repr=False)
    not_after: _Instant | None = None


class _KeyEntry(_Strict):
    id: Annotated[str, AfterValidator(_is_id)]
    tenant: _Name
    # No `min_length`, and no `max_length` for hashes: pydantic does not count invalid entries.
    scopes: Annotated[tuple[Scope, ...], AfterValidator(_is_not_empty)]
    hash: _Digest | None = Field(default=None, repr=False)
    hashes: tuple[_HashEntry, ...] = ()
    identity: Annotated[str, AfterValidator(valid_name)] | None = None
    agents: tuple[_NameOrAll, ...] = ()
    tools: tuple[_NameOrAll, ...] = ()
    not_after: _Instant | None = None
    disabled: bool = False

    def key(self) -> Key:
        hashes = tuple(SecretHash(entry.hash, entry.not_after) for entry in self.hashes)
        return Key(
            Principal(self.tenant, self.id, frozenset(self.scopes), _allowed(self.agents), _allowed(self.tools)),
            public_id_of(self.id),
            hashes if self.hash is None else (SecretHash(self.hash),),
            self.not_after,
            self.disabled,
            self.identity or "",
        )


class _File(_Strict):
    keys: tuple[_KeyEntry, ...]


def parse_keys(content: bytes, source: str) -> tuple[Key, ...]:
    """Return the keys in the content of a file. `source` is its name in problems.

    Raises:
        ConfigError: every problem at once, by line: `keys.yaml:3 keys[0].hash: must be …`.
    """
    try:
        document = read_yaml(decoded(content), scalars_are_text=True)
    except Unusable as error:
        raise ConfigError([f"{source}: {error}"]) from None
    except UnreadableYamlError as error:
        place = f"{source}:{error.line}" if error.line else source
        raise ConfigError([f"{place}: {error.text}"]) from None
    problems: list[tuple[int, Location, str]] = [*document.flaws, *_entry_problems(document)]
    try:
        file = _File.model_validate(document.tree)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems += [
            (document.line(detail["loc"]), detail["loc"], _in_words(detail))
            for detail in details
            if detail["loc"] not in document.unread
        ]
    if problems:
        problems.sort(key=lambda problem: problem[0])
        raise ConfigError([f"{source}:{line}{_place(path)}: {message}" for line, path, message in problems])
    return tuple(entry.key() for entry in file.keys)


def load_keys(path: Path) -> tuple[Key, ...]:
    """Return the keys of a file.

    Raises:
        ConfigError: as `read_bytes` and `parse_keys`.
    """
    return parse_keys(read_bytes(path), str(path))


def _entry_problems(document: YamlDocument) -> Iterator[tuple[int, Location, str]]:
    """Yield problems that concern more than one value; they are reported even if other values are invalid."""
    entries = document.tree.get("keys") if isinstance(document.tree, dict) else None
    public_ids: dict[str, int] = {}
    hashes_seen: dict[str, int] = {}
    identities: dict[str, int] = {}
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if not isinstance(entry, dict):
            continue
        path: Location = ("keys", index)
        if sum(bool(entry.get(proof)) for proof in ("hash", "hashes", "identity")) != 1:
            yield document.line(path), path, "must have exactly one of hash, hashes and identity"
        if isinstance(entry.get("id"), str):
            yield from _repeated(document, (*path, "id"), public_id_of(entry["id"]), public_ids, "id")
        yield from _repeated(document, (*path, "identity"), entry.get("identity"), identities, "identity")
        hashes = entry.get("hashes")
        yield from _repeated(document, (*path, "hash"), entry.get("hash"), hashes_seen, "hash")
        if isinstance(hashes, list) and len(hashes) > HASHES_MAX:
            yield document.line((*path, "hashes")), (*path, "hashes"), f"must have at most {HASHES_MAX} entries"
        for at, item in enumerate(hashes if isinstance(hashes, list) else ()):
            if isinstance(item, dict):
                yield from _repeated(document, (*path, "hashes", at, "hash"), item.get("hash"), hashes_seen, "hash")


def _repeated(
    document: YamlDocument, path: Location, value: Any, seen: dict[str, int], what: str
) -> Iterator[tuple[int, Location, str]]:
    if not isinstance(value, str):
        return
    line = document.line(path)
    if value in seen:
        yield line, path, f"must be unique: line {seen[value]} has the same {what}"
    seen.setdefault(value, line)


def _allowed(names: tuple[str, ...]) -> frozenset[str] | None:
    return None if "*" in names else frozenset(names)


def _place(path: Location) -> str:
    """Return ` keys[0].hash` for ("keys", 0, "hash"); an unknown name is not repeated."""
    text = dotted(path, lambda name: f".{name}" if _TELLABLE.fullmatch(name) else ".?")
    return f" {text}" if text else ""


_WORDS = {
    "extra_forbidden": "is not a known name here",
    "enum": f"must be one of {', '.join(Scope)}",
}


def _in_words(detail: Any) -> str:
    return in_words(detail, _WORDS, otherwise="is not valid")
