"""`agent-service init DIR`: writes a new project. Calls no server and reads no configuration."""

from __future__ import annotations

import os
import secrets
from importlib.resources import files
from pathlib import Path

import click

from agent_service.config.settings import Settings
from agent_service.version import version

# The name in the new project for each file of `project/`.
FILES = {
    "README.md": "README.md",
    "config.yaml": "config.yaml",
    "shop_tools.py": "shop_tools.py",
    "test_shop_tools.py": "test_shop_tools.py",
    "env": ".env",
    "gitignore": ".gitignore",
    "Dockerfile": "Dockerfile",
    "dockerignore": ".dockerignore",
}
SECRET = "env"  # noqa: S105 - the name of a file that only its owner may read


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def init(directory: Path) -> None:
    """Write a new project into DIR.

    Writes a configuration, a tool with its test, .env, Dockerfile and README.md. Creates DIR if it does not exist.
    Overwrites nothing: if one of the files exists, none is written. The project runs without changes, on the scripted
    model; its README.md explains how to try it and what to change.
    """
    existing = [name for name in FILES.values() if os.path.lexists(directory / name)]
    if existing:
        text = f"{directory} already has {', '.join(existing)}, and no file is overwritten: choose another directory"
        raise click.UsageError(text)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in _texts().items():
            _write(directory / FILES[name], text, mode=0o600 if name == SECRET else 0o666)
    except OSError as error:
        raise click.UsageError(f"{error.filename}: {error.strerror}") from None
    click.echo(f"wrote {', '.join(sorted(FILES.values()))} into {directory}")
    click.echo(f"next: cd {directory} && agent-service serve; README.md there says the rest", err=True)


def _texts() -> dict[str, str]:
    """Return the content of each file, by its name in `project/`."""
    folder = files("agent_service.cli.project")
    texts = {name: (folder / name).read_text("utf-8") for name in FILES}
    texts["Dockerfile"] = texts["Dockerfile"].replace("{version}", version())
    llm_model = str(Settings.model_fields["llm_model"].default)
    texts["env"] = texts["env"].replace("{api_key}", secrets.token_hex(32)).replace("{llm_model}", llm_model)
    return texts


def _write(path: Path, text: str, mode: int) -> None:
    """Create a file that does not exist yet."""
    with open(path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(text)
