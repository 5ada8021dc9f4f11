"""The version that is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def version() -> str:
    """As in pyproject.toml; `0+unknown` in a tree that was never installed."""
    try:
        return installed_version("agent-service")
    except PackageNotFoundError:
        return "0+unknown"
