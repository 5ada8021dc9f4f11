"""The installed version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def version() -> str:
    """Return the version as in pyproject.toml; `0+unknown` if the package is not installed."""
    try:
        return installed_version("agent-service")
    except PackageNotFoundError:
        return "0+unknown"
