"""Tests of the tools, without a model or a server."""

from __future__ import annotations

import pytest
from shop_tools import order_status

from agent_service.errors import ToolError


def test_an_order_has_a_state() -> None:
    assert order_status("A-17") == {"order": "A-17", "state": "shipped"}


def test_the_model_learns_that_there_is_no_such_order() -> None:
    with pytest.raises(ToolError, match="there is no order B-1"):
        order_status("B-1")


def test_arguments_are_checked_before_the_function_runs() -> None:
    assert order_status.parse('{"order": "A-17"}') == {"order": "A-17"}
    with pytest.raises(ToolError, match="order"):
        order_status.parse('{"number": 17}')
