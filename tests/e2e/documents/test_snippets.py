"""Every code block of README, docs and the clients' READMEs is run, compiled or parsed: what a reader copies works.

sh: run, each page from its beginning to its end, against a server that was started as `make serve` starts it.
python: run in its page's order; with `# some/file.py` as its first line it is that file.
go, js, ts, java, and the python of a client: part of an example of that client. tests/clients compiles those and runs
    them against a server of the same kind.
yaml: parsed; a configuration, and a file of keys, is checked as the service checks it.
json, toml, xml: parsed.

SHOWN are the languages of output and drawings. The exceptions are the pages in NOT_PLAYED and the lines in NOT_RUN,
each with its reason; they are parsed, and tests/house/documents/test_docs.py checks the names and options of their
commands.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import textwrap
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from agent_service.config.loader import load
from agent_service.config.schema import File
from agent_service.keys.file import parse_keys
from tests.e2e.processes import KEY, environment, server_process

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    path for pattern in ("README.md", "docs/*.md", "clients/*.md", "clients/*/README.md") for path in ROOT.glob(pattern)
)
ADDRESS = "localhost:9000"
# Pages whose commands are not run here.
NOT_PLAYED: Mapping[str, str] = {
    "docs/recipes.md": "tests/e2e/documents/test_recipes.py runs it",
    "docs/project.md": "tests/e2e/documents/test_own_project.py runs it",
    "docs/tools.md": "tests/e2e/documents/test_own_project.py runs it",
    "docs/performance.md": "tests/bench runs the benchmark; the page's commands take 8 minutes each",
    "docs/operations.md": "its commands are for incidents, backups and certificates that are not there",
    "docs/runbooks.md": "tests/e2e/documents/test_runbooks.py runs it",
    "docs/kubernetes.md": "needs a cluster; tests/deploy renders and checks the chart",
    "docs/releasing.md": "would publish a release",
    "clients/python/README.md": "tests/clients/test_python_wheel.py installs the client and runs the examples",
    "clients/go/README.md": "tests/clients builds the client and runs the examples",
    "clients/typescript/README.md": "tests/clients builds the client and runs the examples",
    "clients/java/README.md": "tests/clients/test_java.py builds the client as the page says and runs the examples",
}
# Lines, by a part of them, that are not run on any page.
NOT_RUN: Mapping[str, str] = {
    "make test": "this test is part of it",
    "make serve": "the server that the page calls runs already",
    "agent-service serve": "the server that the page calls runs already",
    "openssl rand": "the key of that server is in the environment already",
    "export OPENAI_API_KEY": "the value stands for a key of the reader's",
    "make image": "needs a container engine; make test-image runs it",
    "docker ": "needs a container engine; make test-image runs the image",
    "helm ": "needs a cluster; tests/deploy renders the chart",
    "zsh_source": "for another shell; tests/cli/test_completion.py runs it",
    "fish_source": "for another shell; tests/cli/test_completion.py runs it",
}
SHOWN = ("text", "console", "mermaid", "diff", "dockerfile", "promql", "http")
EXAMPLES: Mapping[str, str] = {
    "python": "python",
    "go": "go",
    "js": "typescript",
    "javascript": "typescript",
    "ts": "typescript",
    "typescript": "typescript",
    "java": "java",
}
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
FILE_NAME = re.compile(r"(?:#|//) (?P<name>[\w./-]+\.\w+)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a page."""

    page: Path
    line: int
    language: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """The file that its first line says it is."""
        named = FILE_NAME.match(self.code)
        return named and named["name"]

    def is_part_of_an_example(self) -> bool:
        folder = ROOT / "clients" / EXAMPLES[self.language] / "examples"
        files = (path for path in folder.rglob("*.*") if path.is_file())
        return any(unindented(self.code) in unindented(path.read_text("utf-8")) for path in files)


def unindented(code: str) -> str:
    """What is shown in part may stand further to the left."""
    return "\n".join(line.strip() for line in code.splitlines() if line.strip())


def blocks_of(page: Path, target: str = ADDRESS) -> list[Block]:
    """A page's blocks, with another address in place of the one that it names."""
    text = page.read_text("utf-8").replace(ADDRESS, target)
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found["language"], textwrap.dedent(found["code"]))
        for found in FENCE.finditer(text)
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def check_sh(block: Block, _: Path) -> None:
    parsed = subprocess.run(("bash", "-n", "-c", block.code), capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"^make ([a-z-]+)", block.code, re.MULTILINE)) <= set(targets)


def check_python(block: Block, _: Path) -> None:
    compile(block.code, block.place, "exec")
    if block.page.is_relative_to(ROOT / "clients"):
        check_example(block, _)


def check_example(block: Block, _: Path) -> None:
    assert block.is_part_of_an_example(), "it is no part of an example of the client, which would be compiled and run"


def check_yaml(block: Block, directory: Path) -> None:
    documents = [document for document in yaml.safe_load_all(block.code) if document is not None]
    assert documents
    sections = set(documents[0]) if isinstance(documents[0], dict) else set()
    if sections == {"keys"}:
        parse_keys(block.code.encode(), block.place)
    elif sections and sections <= set(File.model_fields):
        path = directory / "config.yaml"
        path.write_text(block.code + without_which_it_is_no_configuration(documents[0]), "utf-8")
        model = {} if "models" in sections else {"LLM_PROVIDER": "scripted"}
        load({"AGENT_SERVICE_CONFIG_PATH": str(path), **model}, dotenv_path=None)


def without_which_it_is_no_configuration(shown: Mapping[str, Mapping[str, object]]) -> str:
    if "agents" in shown:
        return ""
    return f"\nagents: {{assistant: {{model: {next(iter(shown.get('models', ())), 'default')}}}}}\n"


CHECKS: Mapping[str, Callable[[Block, Path], object]] = {
    "sh": check_sh,
    "python": check_python,
    **dict.fromkeys(set(EXAMPLES) - {"python"}, check_example),
    "yaml": check_yaml,
    "json": lambda block, _: json.loads(block.code),
    "toml": lambda block, _: tomllib.loads(block.code),
    "xml": lambda block, _: ElementTree.fromstring(block.code),
    **dict.fromkeys(SHOWN, lambda *_: None),
}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_is_valid(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    assert len(re.findall(r"^ *(?:```|~~~)", page.read_text("utf-8"), re.MULTILINE)) == 2 * len(blocks)
    wrong = []
    for block in blocks:
        try:
            CHECKS[block.language](block, tmp_path)
        except KeyError as unknown:
            wrong.append(f"{block.place}: nothing checks the language {unknown}; say `text` for what is only shown")
        except Exception as error:  # noqa: BLE001 - whatever a parser raises
            wrong.append(f"{block.place}: {type(error).__name__}: {error}")
    assert wrong == []


# In the real checkout, whose environment is not set up anew while tests run in it.
MAKE = f'make() {{ command make --directory "{ROOT}" --old-file=setup "$@"; }}'


def script_of(page: Path, directory: Path, target: str) -> str:
    """The page's blocks as one script; what is Python, or a configuration, is written to its file first."""
    script = ["set -euo pipefail", MAKE]
    for block in blocks_of(page, target):
        script.append(f"echo '--- {block.place}'")
        if block.language == "sh":
            lines = block.code.replace("\\\n", " ").splitlines()
            script += [line for line in lines if not any(part in line for part in NOT_RUN)]
        elif block.language == "python":
            path = directory / (block.file_name or f"line_{block.line}.py")
            assert not path.parent.is_symlink(), f"{block.place} would be written into the real checkout"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, "utf-8")
            script.append(f"python {path.relative_to(directory)}")
        elif block.language == "yaml" and set(yaml.safe_load(block.code)) <= set(File.model_fields):
            (directory / "config.yaml").write_text(block.code, "utf-8")
    if (directory / "config.yaml").exists():
        script.append("echo '--- its configuration'; agent-service config check")
    return "\n".join(script)


def checkout(directory: Path) -> Path:
    """Where the reader is: a checkout, without what a developer's own server reads and writes."""
    directory.mkdir()
    for entry in ROOT.iterdir():
        if not entry.name.startswith((".env", "config.yaml", "agent_service.db")) or entry.name == ".env.example":
            (directory / entry.name).symlink_to(entry)
    return directory


async def play(script: str, directory: Path, target: str) -> str:
    """Run a page's script; what is wrong, empty if nothing is."""
    path = f"{ROOT / '.venv' / 'bin'}:{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("timeout", "280", "bash", "-c", script),
        cwd=directory,
        env=environment(API_KEY=KEY, AGENT_SERVICE_TARGET=target) | {"PATH": path},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed = (await process.communicate())[0].decode()
    return "" if process.returncode == 0 else f"exit code {process.returncode} after {printed[-3000:]}"


@pytest.mark.needs("grpcurl")
@pytest.mark.timeout(600)
async def test_the_pages_hold_as_they_stand(tmp_path: Path) -> None:
    pages = [page for page in PAGES if name_of(page) not in NOT_PLAYED and {"sh", "python"} & languages_of(page)]
    assert ROOT / "README.md" in pages
    wrong = ""
    async with server_process(tmp_path, LLM_PROVIDER="") as server:  # as `make serve` finds it
        for number, page in enumerate(pages):
            there = checkout(tmp_path / str(number))
            wrong += await play(script_of(page, there, server.target), there, server.target)
    assert not wrong, wrong


def languages_of(page: Path) -> set[str]:
    return {block.language for block in blocks_of(page)}
