"""docs/configuration.md is what the types of the configuration say, and it says all of it."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from agent_service.cli import main
from agent_service.config.describe import env_reference, json_schema
from agent_service.config.reference import reference

ROOT = Path(__file__).parents[2]


def rows() -> dict[str, list[str]]:
    """The cells of each row, by its name."""
    found = {}
    for line in reference().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0].startswith("`"):
            found[cells[0].strip("`")] = cells[1:]
    return found


def test_the_manual_is_what_the_configuration_says_of_itself() -> None:
    """Where this fails: `python -m agent_service config reference > docs/configuration.md`."""
    assert (ROOT / "docs" / "configuration.md").read_text("utf-8") == reference()


def test_the_command_prints_it() -> None:
    printed = CliRunner().invoke(main, ["config", "reference"])
    assert (printed.exit_code, printed.stdout) == (0, reference())


def test_it_has_every_variable_with_its_default_and_its_sentence() -> None:
    found = rows()
    for variable in env_reference():
        takes, default, meaning = found[variable.name]
        assert takes
        assert default == (f"`{variable.default}`" if variable.default else "unset")
        assert meaning.replace("\\<", "<") == variable.description


def test_it_has_every_setting_of_the_file_and_what_it_means() -> None:
    found = rows()
    last_parts = {name.rpartition(".")[2] for name in found}
    for definition in json_schema()["$defs"].values():
        for name, given in definition["properties"].items():
            is_mapping = any("$ref" in each for each in (given, *given.get("anyOf", ())))
            assert is_mapping or name in last_parts
    assert [name for name, cells in found.items() if not all(cells)] == []


def test_it_tells_bounds_choices_and_what_is_required() -> None:
    found = rows()
    assert found["AGENT_SERVICE_ENV"][:2] == ["`development` or `production`", "`development`"]
    assert found["API_KEY"][:2] == ["secret", "unset"]
    assert found["API_PORT"][:2] == ["integer, 0 to 65,535", "`9000`"]
    assert found["METRICS_ENABLED"][:2] == ["`true` or `false`", "`true`"]
    assert found["provider"][1] == "required"
    assert found["temperature"][:2] == ["number, 0 to 2", "by family"]
    assert found["timeout.idle_s"][:2] == ["number, above 0 to 3,600", "`30`"]
    assert found["limits.turns"][:2] == ["integer, 1 to 1,000", "`10`"]
    rules = "`always` or `never` or `side_effecting`"
    assert found["approval"][:2] == [f"{rules}, or mapping from names to {rules}", "none"]
    assert found["input_timeout_s"][:2] == ["number, 1 to 2,592,000", "`86400`"]
    assert "| `per` | list of `tenant` or `agent` or `model`, at most 3 | `[tenant]` |" in reference()
    assert found["per"][:2] == ["list of `tenant`, at most 1", "`[tenant]`"]  # of a budget, the last
    assert found["max_tokens"][:2] == ["integer, 1 to 1,000,000,000,000", "none"]
    assert found["price.cached_input"][:2] == ["number, 0 to 1,000,000", "none"]
    assert found["limits.cost"][:2] == ["number, above 0 to 1,000,000,000", "none"]


def test_nothing_in_it_is_html_by_mistake() -> None:
    outside_code = re.sub(r"`[^`\n]*`|<!--.*?-->", "", reference())
    assert re.findall(r"(?<!\\)<", outside_code) == []
