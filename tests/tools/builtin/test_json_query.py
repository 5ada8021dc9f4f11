import json
from typing import Any

import pytest

from agent_service.errors import ToolError
from agent_service.tools.base import ToolArgumentsError, ToolContext
from agent_service.tools.builtin.json_query import find, json_query
from agent_service.tools.runner import ToolRunner
from tests.tools.calls import run

DOCUMENT: dict[str, Any] = {
    "orders": [
        {"id": 7, "lines": [{"sku": "a", "price": 1.5}, {"sku": "b"}]},
        {"id": 8, "lines": []},
        {"id": 9, "note": "none"},
    ],
    "a/b": {"m~n": 1, "": 2},
    "x.y": {"it's": 3},
    "empty": [],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", DOCUMENT),
        ("/orders/0/id", 7),
        ("/a~1b/m~0n", 1),
        ("/a~1b/", 2),
        ("$", DOCUMENT),
        ("$.orders[1].id", 8),
        ("$.orders[-1].note", "none"),
        ("$['x.y'][\"it's\"]", 3),
        ("$.orders[*].id", [7, 8, 9]),
        ("$.orders[*].lines[*].sku", ["a", "b"]),
        ("$.orders[*].lines[*].price", [1.5]),
        ("$.orders[*].note", ["none"]),
        ("$.orders[0].*", [7, DOCUMENT["orders"][0]["lines"]]),
        ("$.empty[*]", []),
        ("$.empty[*].id", []),
        ("$.orders[1].lines[*].sku", []),
    ],
)
def test_a_path_leads_to_its_value(path: str, value: Any) -> None:
    assert find(DOCUMENT, path) == value


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("$.order", '$ is an object and has no "order"; it has: "orders", "a/b", "x.y", "empty"'),
        ("$.orders[3]", "$.orders is an array of 3 and has no 3; it takes an index from 0, or [*]"),
        ("$.orders[-4]", "$.orders is an array of 3 and has no -4; it takes an index from 0, or [*]"),
        ("$.orders.id", '$.orders is an array of 3 and has no "id"; it takes an index from 0, or [*]'),
        ("$.orders[0].id.x", '$.orders[0].id is neither object nor array and has no "x"'),
        ("$.orders[0].id[*]", "$.orders[0].id is neither object nor array and has no elements"),
        (
            "$.orders[*].di",
            '$.orders[*] has 3 values and none fits; the first is an object and has no "di"; it has: "id", "lines"',
        ),
        ("/orders/00", '/orders is an array of 3 and has no "00"; it takes an index from 0, or [*]'),
        ("/orders/-", '/orders is an array of 3 and has no "-"; it takes an index from 0, or [*]'),
        ("/nothing", 'the document is an object and has no "nothing"; it has: "orders", "a/b", "x.y", "empty"'),
        ("orders", "path must begin with $ (JSONPath) or / (JSON Pointer)"),
        ("$orders", "path is not understood from character 2 on; known: .name ['name'] [0] [-1] [*]"),
        ("$.orders[?(@.id)]", "path is not understood from character 9 on; known: .name ['name'] [0] [-1] [*]"),
        ("$..id", "path is not understood from character 2 on; known: .name ['name'] [0] [-1] [*]"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_where_it_broke(path: str, message: str) -> None:
    with pytest.raises(ToolError) as caught:
        find(DOCUMENT, path)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ', "document is not valid JSON: Expecting value at line 1 column 7"),
        ('{"a": NaN}', "document is not valid JSON: NaN is not"),
        ("[" * 100_000, "document is nested too deeply"),
        ("9" * 5000, "document holds an integer with too many digits"),
    ],
)
def test_text_that_is_no_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(ToolError) as caught:
        json_query(text, "$")
    assert caught.value.message == message


@pytest.mark.parametrize("as_text", [True, False])
async def test_the_document_may_be_json_or_text_of_it(runner: ToolRunner, context: ToolContext, as_text: bool) -> None:
    arguments = {"document": json.dumps(DOCUMENT) if as_text else DOCUMENT, "path": "$.orders[0].lines[0]"}
    result = await run(runner, json_query, json.dumps(arguments), context)
    assert json.loads(result.output_json) == {"sku": "a", "price": 1.5}


async def test_numbers_in_text_keep_all_their_digits(runner: ToolRunner, context: ToolContext) -> None:
    text = '{"n": [0.12345678901234567890, 1.50, 123456789012345678901234567890]}'
    result = await run(runner, json_query, json.dumps({"document": text, "path": "/n"}), context)
    assert result.output_json == "[0.12345678901234567890,1.50,123456789012345678901234567890]"


def test_documents_and_paths_are_bounded() -> None:
    with pytest.raises(ToolArgumentsError) as caught:
        json_query.parse(json.dumps({"document": " " * (1024 * 1024 + 1), "path": "/" * 501}))
    assert any(violation.field == "path" for violation in caught.value.violations)
    assert any(violation.field.startswith("document") for violation in caught.value.violations)
