"""The text of a secret."""

from __future__ import annotations

import re
import zlib

import pytest

from agent_service.keys.secret import (
    generate,
    hash_text,
    new_public_id,
    parse,
    parse_hash,
    public_id_of,
)

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET = generate("AbcDef012345")


def test_a_new_secret_tells_its_public_id_and_nothing_else_is_alike() -> None:
    made = {generate("AbcDef012345") for _ in range(100)}
    assert len(made) == 100
    for text in made:
        assert re.fullmatch(r"ask_AbcDef012345_[0-9A-Za-z]{30,}", text)
        assert parse(text) == "AbcDef012345"


def test_the_last_six_characters_are_the_crc32_of_the_rest() -> None:
    number = 0
    for character in SECRET[-6:]:
        number = number * 62 + BASE62.index(character)
    assert number == zlib.crc32(SECRET[:-6].encode())


@pytest.mark.parametrize("position", range(len(SECRET)))
def test_no_single_typing_error_goes_unnoticed(position: int) -> None:
    for other in "0aZ_ ":
        if SECRET[position] != other:
            assert parse(SECRET[:position] + other + SECRET[position + 1 :]) is None


@pytest.mark.parametrize(
    "text",
    ["", "ask_", SECRET[:-1], SECRET + "a", SECRET + "\n", " " + SECRET, SECRET.upper(), "x" * 5000, "ask_\ud800", "ä"],
    ids=range(10),
)
def test_what_is_no_secret_has_no_public_id(text: str) -> None:
    assert parse(text) is None


def test_public_ids_are_those_of_the_key_ids_or_made_from_them() -> None:
    made = new_public_id()
    assert public_id_of(made) == made
    assert public_id_of("ci-2026") == public_id_of("ci-2026")
    assert re.fullmatch(r"[0-9A-Za-z]{12}", public_id_of("ci-2026"))
    assert len({public_id_of(f"ci-{number}") for number in range(1000)}) == 1000


def test_the_public_id_of_a_word_never_changes() -> None:
    assert public_id_of("ci-2026") == "QaDlfwl7r5hr"  # secrets out there depend on it


def test_a_hash_is_text_and_back() -> None:
    text = hash_text("abc")
    assert text == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    digest = parse_hash(text)
    assert digest is not None
    assert digest.hex() == text.removeprefix("sha256:")


@pytest.mark.parametrize("text", ["", "abc", "sha256:", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "md5:" + "a" * 64])
def test_what_is_no_hash_has_no_digest(text: str) -> None:
    assert parse_hash(text) is None
