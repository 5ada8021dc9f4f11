"""What an agent's configuration says of approvals, unknown outcomes, answers and busy sessions."""

from __future__ import annotations

import pytest
import yaml

from agent_service.config.checks import unknown_tools
from agent_service.config.describe import show
from agent_service.config.schema import Agent

from .conftest import Place

MODEL = {"LLM_PROVIDER": "scripted"}
RULES = "'always', 'never' or 'side_effecting'"


def agent(place: Place, fields: str) -> Agent:
    place.write(f"agents: {{a: {{model: default, tools: [echo, calculator], {fields}}}}}\n")
    return place.load(MODEL).agents["a"]


def test_an_agent_that_says_nothing_leaves_approval_to_its_tools_and_waits_a_day_for_an_answer(place: Place) -> None:
    told = agent(place, "")
    assert told.approval_rule("echo") is None
    assert (told.session, told.outcome_unknown, told.submitter_may_answer) == ("enqueue", "ask", True)
    assert (told.input_timeout_s, told.on_limit) == (86_400, "wait")


def test_one_rule_is_for_all_of_its_tools(place: Place) -> None:
    told = agent(place, "approval: side_effecting")
    assert [told.approval_rule(name) for name in told.tools] == ["side_effecting", "side_effecting"]


def test_a_mapping_is_for_the_tools_that_it_names(place: Place) -> None:
    told = agent(place, "approval: {echo: always}")
    assert (told.approval_rule("echo"), told.approval_rule("calculator")) == ("always", None)


def test_what_an_agent_says_of_the_rest_is_read(place: Place) -> None:
    fields = "session: reject, outcome_unknown: tell, submitter_may_answer: false, input_timeout_s: 2592000"
    told = agent(place, f"{fields}, on_limit: fail")
    assert (told.session, told.outcome_unknown, told.submitter_may_answer) == ("reject", "tell", False)
    assert (told.input_timeout_s, told.on_limit) == (30 * 86_400, "fail")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("approval: maybe", f"approval: must be {RULES}, or a mapping from tools to these"),
        ("approval: no", f"approval: must be {RULES}, or a mapping from tools to these"),
        ("approval: [always]", f"approval: must be {RULES}, or a mapping from tools to these"),
        ("approval: {echo: maybe}", f"approval.echo: must be {RULES}"),
        ("approval: {echo: off}", f"approval.echo: must be {RULES}"),
        ("approval: {echo: {if: x}}", f"approval.echo: must be {RULES}"),
        ("approval: {echo: !mine always}", "approval.echo: tags are not supported"),
        ("approval: {ecoh: always}", "approval.ecoh: is not among the agent's tools; did you mean echo?"),
        ("approval: {current_time: always}", "approval.current_time: is not among the agent's tools"),
        ("approval: {Echo: always}", "approval.Echo: is not among the agent's tools; did you mean echo?"),
        ("session: queue", "session: must be 'enqueue' or 'reject'"),
        ("outcome_unknown: guess", "outcome_unknown: must be 'ask' or 'tell'"),
        ("on_limit: ask", "on_limit: must be 'wait' or 'fail'"),
        ("submitter_may_answer: maybe", "submitter_may_answer: must be true or false"),
        ("input_timeout_s: 0.5", "input_timeout_s: must be at least 1"),
        ("input_timeout_s: 2592001", "input_timeout_s: must be at most 2592000"),
        ("input_timeout_s: .inf", "input_timeout_s: must be a finite number"),
    ],
)
def test_what_does_not_fit_is_told_once(place: Place, fields: str, told: str) -> None:
    place.write(f"agents:\n  a:\n    {{model: default, tools: [echo, calculator], {fields}}}\n")
    assert place.problems(MODEL) == [f"config.yaml:3 agents.a.{told}"]


def test_every_wrong_entry_of_a_mapping_has_its_line_and_hides_no_other(place: Place) -> None:
    place.write("""\
        agents:
          a:
            model: default
            tools: [echo]
            approval:
              echo: sometimes
              pay: always
            timeout_s: 0
        """)
    assert place.problems(MODEL) == [
        f"config.yaml:6 agents.a.approval.echo: must be {RULES}",
        "config.yaml:7 agents.a.approval.pay: is not among the agent's tools",
        "config.yaml:8 agents.a.timeout_s: must be at least 1",
    ]


def test_where_the_tools_are_no_list_they_alone_are_told(place: Place) -> None:
    place.write("agents: {a: {model: default, tools: echo, approval: {echo: always}}}\n")
    assert place.problems(MODEL) == ["config.yaml:1 agents.a.tools: must be a list"]


def test_a_mapping_without_tools_names_some_that_there_are_not(place: Place) -> None:
    place.write("agents: {a: {model: default, approval: {echo: always}}}\n")
    assert place.problems(MODEL) == ["config.yaml:1 agents.a.approval.echo: is not among the agent's tools"]


def test_a_tool_that_nobody_registered_is_told_where_it_is_listed_and_not_again_for_its_approval(place: Place) -> None:
    place.write("agents:\n  a:\n    model: default\n    tools: [pay]\n    approval: {pay: always}\n")
    problems = unknown_tools(place.load(MODEL).document, ["echo"])
    assert [str(problem) for problem in problems] == [
        "config.yaml:4 agents.a.tools[0]: 'pay' is not a tool; tools: echo"
    ]


@pytest.mark.parametrize("approval", ["", "approval: always", "approval: {echo: never}"])
def test_what_is_shown_of_it_can_be_written_to_a_file_again(place: Place, approval: str) -> None:
    first = agent(place, approval)
    shown = yaml.safe_load(show(place.load(MODEL)))
    place.write(yaml.safe_dump({"agents": shown["agents"]}))
    again = place.load(MODEL).agents["a"]
    assert again.model_dump(exclude={"default"}) == first.model_dump(exclude={"default"})
