"""What the contracts are run on."""

from tests.contracts.stores import store

__all__ = ["store"]
