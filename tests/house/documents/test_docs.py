"""What the documents say of names, codes, commands and one another is so."""

from __future__ import annotations

import ast
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import grpc
import pytest

from agent_service import errors
from agent_service.cli import main
from agent_service.config.settings import CLIENT_VARIABLES, variables
from agent_service.server.status import CODES
from agent_service.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).parents[3]
PREFIX = "ERROR_REASON_"
REASONS = {name.removeprefix(PREFIX) for name in ErrorReason.DESCRIPTOR.values_by_name} - {"UNSPECIFIED"}
STATUSES = {code.name for code in grpc.StatusCode}

# Where a reason is met that is no status of a call.
VALUES = ("a task's failure", "the error of a tool call", "the error of a model request")

# Read by the commands that call a server, refused by name, read by the tool of an example, read by make: no setting of
# the service.
OTHER_VARIABLES = {*CLIENT_VARIABLES, "REDIS_URL", "PRICES_TOKEN", "ARGS"}
UNLIKE_A_COMMAND = {"COMMAND", "…", "...", "\\"}


def documents() -> list[Path]:
    """Every Markdown file that is ours, without what .gitignore names."""
    left_out = {"build", "dist", "node_modules"}
    found = [
        path
        for path in ROOT.rglob("*.md")
        if not any(part in left_out or part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    return sorted(found)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


DOCUMENTS = documents()
MANUALS = [path for path in DOCUMENTS if path.name == "README.md" or path.parent == ROOT / "docs"]


class Described(NamedTuple):
    reason: str
    met_as: str
    rest: list[str]


def described() -> list[Described]:
    """The rows of docs/errors.md that are about a reason."""
    lines = (ROOT / "docs" / "errors.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]
    return [Described(row[0].strip("`"), row[1], row[2:]) for row in rows if len(row) == 5]


@cache
def raised_as() -> dict[str, set[type]]:
    """With which of our errors the code raises each reason."""
    found: dict[str, set[type]] = defaultdict(set)
    for path in (ROOT / "agent_service").rglob("*.py"):
        if "v1" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for reason, error in _raised_in(node):
                    found[reason].add(error)
    # The reasons that errors have by default.
    found["FIELD_INVALID"].add(errors.ValidationError)
    found["TOOL_FAILED"].add(errors.ToolError)
    found["INTERNAL"].add(errors.InternalError)
    found["CALL_CANCELED"].add(errors.CanceledError)
    return found


def _raised_in(function: ast.AST) -> Iterator[tuple[str, type]]:
    """Reasons that stand in the making of an error; those that stand elsewhere go with errors made without one."""
    made = [
        (error, _reasons(node))
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        for error in CODES
        if error.__name__ == _name(node.func)
    ]
    elsewhere = _reasons(function) - {reason for _, reasons in made for reason in reasons}
    for error, reasons in made:
        for reason in reasons or elsewhere:
            yield reason, error


def _reasons(node: ast.AST) -> set[str]:
    names = map(_name, ast.walk(node))
    return {name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)}


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_every_reason_is_described_once_and_no_other() -> None:
    assert sorted(row.reason for row in described()) == sorted(REASONS)


def test_every_description_says_what_it_means_what_to_do_and_whether_to_retry() -> None:
    assert [row.reason for row in described() if not all(row.rest)] == []


@pytest.mark.parametrize("row", described(), ids=lambda row: row.reason)
def test_a_reason_is_met_as_the_status_that_its_error_becomes(row: Described) -> None:
    made = raised_as()[row.reason]
    internal = {errors.TaskLimitError, errors.LLMError, errors.ToolError}
    told = {word for word in re.findall(r"[A-Z_]{6,}", row.met_as) if word in STATUSES}

    assert told == {CODES[error].name for error in made - internal}
    assert told or row.met_as in VALUES


@pytest.mark.parametrize("row", described(), ids=lambda row: row.reason)
def test_a_reason_is_met_as_its_proto_says(row: Described) -> None:
    proto = (ROOT / "protos/agent_service/v1/error_reason.proto").read_text("utf-8")
    found = re.search(rf"((?:^ +//.*\n)+)^ +{PREFIX}{row.reason} = ", proto, flags=re.MULTILINE)
    assert found is not None
    first = " ".join(found[1].replace("//", "").split()).partition(".")[0]
    statuses = {word for word in re.findall(r"[A-Z_]{6,}", first) if word in STATUSES}
    values = {value for value in VALUES if value in first.lower()}

    assert statuses | values
    assert all(said in row.met_as for said in statuses | values)


@pytest.mark.parametrize("path", MANUALS, ids=ids)
def test_variables_that_a_document_names_are_settings(path: Path) -> None:
    text = path.read_text("utf-8")
    ours = {name.split("_")[0] for name in variables()}
    written = set(re.findall(r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b(?!\*|_)", text))
    named = {name for name in written if name.split("_")[0] in ours}
    named |= set(re.findall(r"^(?:export )?([A-Z][A-Z0-9_]+)=", text, flags=re.MULTILINE))

    assert named - variables().keys() - REASONS - STATUSES - OTHER_VARIABLES - _names_of_the_contract() == set()


def _names_of_the_contract() -> set[str]:
    text = "".join(path.read_text("utf-8") for path in (ROOT / "protos").rglob("*.proto"))
    arms = {name.upper() for name in re.findall(r"^ +\w+ (\w+) = ", text, flags=re.MULTILINE)}  # as Java calls them
    return arms | set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", text))


def test_every_setting_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert [name for name in variables() if f"| `{name}` |" not in text] == []


def test_what_people_copy_names_no_model_that_has_ended_or_will_soon() -> None:
    copied = [ROOT / name for name in ("README.md", ".env.example", "compose.yaml", "docs/config.example.yaml")]
    copied += [ROOT / "docs" / name for name in ("configuration.md", "getting-started.md", "container.md")]
    copied += (ROOT / "deploy").rglob("*.yaml")
    named = {
        str(path.relative_to(ROOT)): set(re.findall(r"gpt-[34][\w.-]*", path.read_text("utf-8"))) for path in copied
    }
    assert {path: models for path, models in named.items() if models} == {}


def command_lines(path: Path) -> list[str]:
    """What a document tells to type that begins, after a path and variables, with `agent-service`."""
    text = path.read_text("utf-8")
    blocks = re.findall(r"^```(?:sh|shell|console|bash)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    typed = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    typed += re.findall(r"`([^`\n]*agent-service [^`\n]*)`", text)
    # Of these two, what is run in a container: the rest are names of theirs that are spelt like our command.
    typed = [line.partition(" -- ")[2] if line.startswith(("helm ", "kubectl ")) else line for line in typed]
    typed = [line for line in typed if not line.startswith("pip ")]  # to which it is a folder
    start = re.compile(r"(?:^|[\s;&|(])(?:[\w./]*/)?agent-service (?=\S)(.*)")
    return [found[1] for line in typed if (found := start.search(line))]


def arguments_of(line: str) -> list[str]:
    """The words up to what the shell takes for itself."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if word in {"|", "||", "&&", "&", ";", ">", ">>", "<", "(", ")", "2"} or set(word) <= set("<>&|;()"):
            break
        words.append(word)
    return words


def refusal(words: list[str]) -> str | None:
    """Why the command line does not take these words; None if it does."""
    command: click.Command = main
    context: click.Context | None = None
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        if name in UNLIKE_A_COMMAND:
            return None
        context = click.Context(command, parent=context, info_name=command.name)
        found = command.get_command(context, name)
        if found is None:
            return f"there is no command {name}"
        command = found
    if isinstance(command, click.Group) and not words:
        return None  # a group, spoken of
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h"}
    options = [word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)]
    unknown = [option for option in options if option not in known]
    if unknown:
        return f"{command.name} takes no {', '.join(unknown)}"
    if "--help" in options or "--version" in options:
        return None
    try:
        command.make_context(command.name, list(words), parent=context, resilient_parsing=not options)
    except click.ClickException as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("path", MANUALS, ids=ids)
def test_every_command_that_a_document_tells_to_type_is_one(path: Path) -> None:
    found = {line: refusal(arguments_of(line)) for line in command_lines(path)}
    assert {line: why for line, why in found.items() if why} == {}


def test_there_are_commands_to_type() -> None:
    assert len(command_lines(ROOT / "docs" / "command-line.md")) > 5


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("serve --port 9000", None),
        ("run --json 'What is 17.5% of 2340?'  # a comment", None),
        ("config reference > docs/configuration.md", None),
        ("keys", None),
        ("serv --port 9000", "no command"),
        ("tools call calculator", "no command"),
        ("serve --prot 9000", "takes no --prot"),
        ("serve --port many", "not a valid integer"),
        ("keys new --tenant acme --scope tasks.fly", "tasks.fly"),
    ],
)
def test_a_command_that_is_none_is_found(line: str, why: str | None) -> None:
    told = refusal(arguments_of(line))
    assert (told is None) if why is None else (told is not None and why in told)


LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")


def headings(path: Path) -> set[str]:
    """The anchors of a document, as GitHub makes them."""
    lines = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_links_within_the_repository_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    lost = []
    for target in LINK.findall(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        file, _, anchor = target.partition("#")
        at = (path.parent / file).resolve() if file else path
        if not (at.exists() and at.is_relative_to(ROOT)) or (anchor and anchor not in headings(at)):
            lost.append(target)
    assert lost == []


def test_the_readme_begins_with_the_picture_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    begin = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    (picture,) = re.findall(r"!\[[^\]]+\]\((\S+)\)", begin)
    (commands,) = re.findall(r"```sh\n(.*?)```", begin, flags=re.DOTALL)

    assert (ROOT / picture).exists()
    assert [line.split("#")[0].strip() for line in commands.splitlines()] == ["make demo", "make test"]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=ids)
def test_the_index_leads_to_every_page(page: Path) -> None:
    links = LINK.findall((ROOT / "docs" / "README.md").read_text("utf-8"))
    assert page.name in {*links, "README.md"}, f"docs/README.md has no row for {page.name}"


@pytest.mark.parametrize("decision", sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")), ids=ids)
def test_the_index_of_decisions_has_each_with_its_title_and_status(decision: Path) -> None:
    found = re.match(r"# 0*(\d+)[.:] (.+)\n", decision.read_text("utf-8"))
    assert found is not None
    assert int(found[1]) == int(decision.name[:4])
    row = f"| {found[1]} | [{found[2]}]({decision.name}) | "
    rows = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8").splitlines()

    assert [line for line in rows if re.fullmatch(re.escape(row) + r"\w.*\|", line)], f"add: {row}accepted |"


def test_there_are_documents() -> None:
    assert {"README.md", "ARCHITECTURE.md", "docs/errors.md", "docs/configuration.md"} <= set(map(ids, DOCUMENTS))
