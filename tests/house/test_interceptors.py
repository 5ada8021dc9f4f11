"""The interceptors that the documents name are those that the server has, in their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from agent_service.observe.metrics import Metrics
from agent_service.server import interceptors
from agent_service.server.interceptors.admission import AdmissionBounds, Bounds
from agent_service.server.interceptors.base import Interceptor
from agent_service.server.stack import ServerParts, health_interceptors
from agent_service.server.stack import interceptors as stack_of

ROOT = Path(__file__).parents[2]
NOT_INTERCEPTORS = {"__init__", "base", "chain", "awaited"}


def parts() -> ServerParts:
    """With everything that adds an interceptor."""
    any_part = Mock()
    return ServerParts(
        service=any_part,
        run_input=any_part,
        keys=any_part,
        limiter=any_part,
        checks={},
        log=any_part,
        metrics=Metrics("test"),
        auth_failures=any_part,
        certificates=any_part,
        tracer=any_part,
    )


def of_port() -> Sequence[Interceptor[Any]]:
    """The interceptors of the main port."""
    bounds = Bounds(1, 1, 1)
    return stack_of(parts(), AdmissionBounds(bounds, bounds, bounds))


def stack() -> list[str]:
    """The modules of the stack, in its order."""
    return [type(interceptor).__module__.rpartition(".")[2] for interceptor in of_port()]


def test_what_a_hook_returns_is_awaited_where_it_has_to_be() -> None:
    """The chain awaits coroutine functions alone: a check in an awaitable of another kind would never run."""
    hooks = [type(each).on_call for each in of_port() if type(each).on_call is not Interceptor.on_call]

    assert len(hooks) > 5
    for hook in hooks:
        assert iscoroutinefunction(hook) or not re.search("Awaitable|Coroutine", str(hook.__annotations__["return"]))


def test_architecture_names_the_interceptors_in_their_order() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    listed = re.search(r"-> server/interceptors +(.*?);", text, flags=re.DOTALL)

    assert listed
    assert [name.strip().replace(" ", "_") for name in listed[1].split("->")] == stack()


def test_every_module_of_the_folder_is_in_the_stack_and_in_the_map() -> None:
    folder = ROOT / "agent_service/server/interceptors"
    modules = {path.stem for path in folder.glob("*.py")}
    mapped = re.findall(r"`(\w+)`", str(interceptors.__doc__))

    assert modules - NOT_INTERCEPTORS == set(stack())
    assert modules - {"__init__"} == set(mapped)


def test_the_port_for_health_has_the_outermost_interceptors() -> None:
    names = [type(interceptor).__module__.rpartition(".")[2] for interceptor in health_interceptors(parts())]

    assert names == stack()[: len(names)]
