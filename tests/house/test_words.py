"""The vocabulary of the code: docstrings and comments are plain technical English, and names are standard terms."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agent_service"

# In docstrings and comments. Code has no will, and "nobody" hides the subject: name the caller, process or worker.
PROSE = re.compile(
    r"\b(pen|let(s|ting)? go|nobody|somebody|anybody|everybody|whoever|lest|for ever|nudge[sd]?|suspects|unjournaled"
    r"|(is|are|be|been|was) told|wants?|beside the point)\b",
    re.IGNORECASE,
)
OPENING = re.compile(r"(What|Whether|How)\b")
# Parts of names, and the terms that replace them.
NAMES = {
    "arrivals": "keyed lock",
    "aside": "quarantine",
    "attended": "attached",
    "beat": "heartbeat",
    "beats": "heartbeats",
    "letgo": "release",
    "nobody": "the missing subject",
    "nudge": "notify",
    "nudged": "notified",
    "pen": "writer",
    "somebody": "the subject",
    "suspects": "quarantine",
    "tail": "follower",
    "told": "text, message, reported",
    "unjournaled": "transient",
    "upkeep": "housekeeping",
}


def modules() -> list[Path]:
    return [module for module in sorted(PACKAGE.rglob("*.py")) if "_pb2" not in module.name]


def findings(source: str) -> list[str]:
    """Return the flaws of a module's text, each with its line."""
    tree = ast.parse(source)
    found = [*flaws_of_docstrings(tree), *flaws_of_comments(source), *flaws_of_names(tree)]
    return [f"{line}: {flaw}" for line, flaw in sorted(found)]


def flaws_of_docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            text = node.value.value
            if opening := OPENING.match(text.lstrip()):
                yield node.lineno, f"a docstring opens with {opening[0]}"
            yield from ((node.lineno, f"'{word[0]}' in a docstring") for word in PROSE.finditer(text))


def flaws_of_comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from ((token.start[0], f"'{word[0]}' in a comment") for word in PROSE.finditer(token.string))


def flaws_of_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        name = defined_by(node)
        if name == "one":
            yield node.lineno, "a variable is named 'one'"  # type: ignore[attr-defined] # every definition has a line
        for part in parts_of(name):
            if part in NAMES:
                yield node.lineno, f"'{part}' in the name {name}: {NAMES[part]}"  # type: ignore[attr-defined] # as above


def defined_by(node: ast.AST) -> str:
    """Return the name that a node defines; "" if it defines none."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return name
    return ""


def parts_of(name: str) -> list[str]:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().replace("let_go", "letgo")
    return words.strip("_").split("_")


def test_the_code_reads_as_plain_technical_english() -> None:
    found = {str(path.relative_to(PACKAGE)): findings(path.read_text("utf-8")) for path in modules()}
    assert {path: flaws for path, flaws in found.items() if flaws} == {}


def test_modules_have_names_of_the_vocabulary() -> None:
    assert [path.name for path in modules() if set(parts_of(path.stem)) & NAMES.keys()] == []


def test_every_package_is_checked() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {path.relative_to(PACKAGE).parts[0] for path in modules()} >= packages > {"cli", "engine", "llm"}


@pytest.mark.parametrize(
    ("source", "flaw"),
    [
        ('"""What happens."""', "1: a docstring opens with What"),
        ('def f():\n    """Whether it is so."""', "2: a docstring opens with Whether"),
        ('class C:\n    x = 1\n    """How many."""', "3: a docstring opens with How"),
        ('"""The pen of one attempt."""', "1: 'pen' in a docstring"),
        ("x = 1  # then it lets go of the file", "1: 'lets go' in a comment"),
        ("x = 1\n# waits for ever", "2: 'for ever' in a comment"),
        ('"""Nobody waits."""', "1: 'Nobody' in a docstring"),
        ('"""The caller is told so."""', "1: 'is told' in a docstring"),
        ("told = 1", "1: 'told' in the name told: text, message, reported"),
        ("class TaskPen: ...", "1: 'pen' in the name TaskPen: writer"),
        ("def let_go(): ...", "1: 'letgo' in the name let_go: release"),
        ("def f(*, is_nudged): ...", "1: 'nudged' in the name is_nudged: notified"),
        ("self._aside = 1", "1: 'aside' in the name _aside: quarantine"),
        ("x = [one for one in y]", "1: a variable is named 'one'"),
    ],
)
def test_a_riddle_is_found(source: str, flaw: str) -> None:
    assert findings(source) == [flaw]


@pytest.mark.parametrize(
    "source",
    [
        '"""Appends events. What is pending is kept; one append at a time."""\npending = 1  # open, one of them',
        "opened = pencil = 1",
        "text = 'nobody is told'",
        "def pending(event): ...",
    ],
)
def test_plain_text_is_not(source: str) -> None:
    assert findings(source) == []
