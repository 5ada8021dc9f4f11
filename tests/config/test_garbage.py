"""Files that are no configuration: one clear line each, never a traceback, never an expansion, never a secret."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_service.config.sources.operator_files import BYTES_MAX
from agent_service.errors import ConfigError

from .conftest import Place

CANARY = "canary-7f3a9c"
BOMB = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c, c, c - 1, c - 1) for c in range(98, 122))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "config.yaml: is empty"),
        (b"# nothing\n\n", "config.yaml: is empty"),
        (b"---\n", "config.yaml: is empty"),
        (b"\n~\n", "config.yaml:2: must be a mapping with `models` and `agents`"),
        (b"- a\n- b\n", "config.yaml:1: must be a mapping with `models` and `agents`"),
        (b"hello", "config.yaml:1: must be a mapping with `models` and `agents`"),
        (b"\x7fELF\x02\x01\x01\x00", "config.yaml:1: is not valid YAML: it has a character that does not print"),
        (b"a: 1\nb: \xff\n", "config.yaml: is not UTF-8 (line 2)"),
        ("a: 1\n".encode("utf-16"), "config.yaml: is not UTF-8 (line 1)"),
        (b"agents:\n\ta: 1\n", "config.yaml:2: is not valid YAML: found character '\\t' that cannot start any token"),
        (b"agents: [a\nmodels: b\n", "config.yaml:2: is not valid YAML: expected ',' or ']', but got ':'"),
        (b"a: 'open\n", "config.yaml:2: is not valid YAML: found unexpected end of stream"),
        (b"a: b: c\n", "config.yaml:1: is not valid YAML: mapping values are not allowed here"),
        (b'a: 1\nb: "\\UFFFFFFFF"\n', "config.yaml:2: is not valid YAML: it has a number that is too large"),
        (b"%YAML 1." + b"9" * 5000, "config.yaml:1: is not valid YAML: it has a number that is too large"),
        (b"a: 1\n---\nb: 1\n", "config.yaml:2: is not valid YAML: but found another document"),
        (b"a: {}\nb: &x 1\n", "config.yaml:2: is not valid YAML: anchors and aliases are not supported"),
        (b"a: *x\n", "config.yaml:1: is not valid YAML: anchors and aliases are not supported"),
        (BOMB, "config.yaml:1: is not valid YAML: anchors and aliases are not supported"),
        (b"a: " + b"[" * 100_000, "config.yaml:1: is not valid YAML: nested deeper than 36"),
        (b"a: " + b"{a: " * 50_000, "config.yaml:1: is not valid YAML: nested deeper than 36"),
        (b"\n".join(b" " * n + b"a:" for n in range(500)), "config.yaml:36: is not valid YAML: nested deeper than 36"),
        (b"a: " + b"x" * BYTES_MAX, "config.yaml: is larger than 256 KiB"),
    ],
)
def test_one_line_says_what_it_is(place: Place, content: bytes, told: str) -> None:
    place.file.write_bytes(content)
    assert place.problems() == [told]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("? [a, b]\n: 1\n", "config.yaml:2: a key must be text"),
        ("<<: {a: 1}\n", "config.yaml:2 <<: is not a setting"),
        ("tools: !!python/object/apply:os.system [echo]\n", "config.yaml:2 tools: tags are not supported"),
        ("tools: !mine {}\n", "config.yaml:2 tools: tags are not supported"),
        ("rate_limits: !!set {a, b}\n", "config.yaml:2 rate_limits: tags are not supported"),
        ("tools: {modules: [!!binary aGk=]}\n", "config.yaml:2 tools.modules[0]: tags are not supported"),
        ("tools: {modules: [!!int x]}\n", "config.yaml:2 tools.modules[0]: is not a number, unlike its tag"),
        (f"tools: {{modules: [{'9' * 5000}]}}\n", "config.yaml:2 tools.modules[0]: is too long"),
        (f"tools: {{modules: [{'1:' * 5000}1]}}\n", "config.yaml:2 tools.modules[0]: is too long"),
        ("tools:\n", "config.yaml:2 tools: must be a mapping"),
        ('"\\e[31mred\\nnext": 1\n', "config.yaml:2 '\\x1b[31mred\\nnext': is not a setting"),
        ('"\\ud800": 1\n', "config.yaml:2 '\\ud800': is not valid Unicode"),
        ('tools: {modules: ["\\ud800"]}\n', "config.yaml:2 tools.modules[0]: is not valid Unicode"),
        (f"{'x' * 1000}: 1\n", f"config.yaml:2 '{'x' * 64}…': is not a setting"),
    ],
)
def test_what_yaml_can_do_and_we_do_not(place: Place, content: str, told: str) -> None:
    place.file.write_text("agents: {a: {model: default}}\n" + content)
    assert place.problems(LLM_PROVIDER="scripted") == [told]


def test_a_date_is_the_text_that_it_is(place: Place) -> None:
    place.file.write_text("agents: {a: {model: default, instructions: 2025-01-31}}\n")
    assert place.load(LLM_PROVIDER="scripted").agents["a"].instructions == "2025-01-31"


def test_a_byte_order_mark_and_windows_lines_are_read(place: Place) -> None:
    place.file.write_bytes(b"\xef\xbb\xbfagents:\r\n  a:\r\n    model: fast\r\n")
    assert place.problems(LLM_PROVIDER="scripted") == [
        "config.yaml:3 agents.a.model: 'fast' is not a model; models: default"
    ]


def test_what_is_no_file_is_told_and_not_waited_for(place: Place) -> None:
    place.file.mkdir()
    assert place.problems() == ["config.yaml: is a directory"]
    os.mkfifo(place.directory / "pipe")
    assert place.problems(AGENT_SERVICE_CONFIG_PATH="pipe") == [
        "pipe: is not a regular file (AGENT_SERVICE_CONFIG_PATH names it)"
    ]


def test_endless_problems_are_counted(place: Place) -> None:
    place.file.write_text("agents: {a: {model: default}}\n" + "".join(f"x{n}: 1\n" for n in range(300)))
    problems = place.problems(LLM_PROVIDER="scripted")
    assert len(problems) == 101
    assert problems[-1] == "and 200 more problems"


def test_a_problem_does_not_repeat_a_value(place: Place) -> None:
    place.file.write_text(f"""\
models:
  a: {{provider: {CANARY}, model_id: [{CANARY}], api_key: {CANARY}, api_key_env: {CANARY}, base_url: {CANARY}}}
  b: {{provider: openai, model_id: m, api_key_env: {CANARY.replace("-", "_")}, temperature: {CANARY}}}
agents:
  one: {{model: b, class: {CANARY}, tools: [{CANARY}], limits: {CANARY}, default: {CANARY}}}
  two: {{model: b, approval: {CANARY}, session: {CANARY}, outcome_unknown: {CANARY}, input_timeout_s: {CANARY}}}
  three: {{model: b, tools: [echo], approval: {{echo: {CANARY}}}, submitter_may_answer: {CANARY}}}
rate_limits: [{{name: x, max_calls: {CANARY}, per: {CANARY}, match: {CANARY}}}]
""")
    problems = place.problems(AGENT_SERVICE_ENV="production", API_KEY=CANARY, OPENAI_API_KEY=CANARY)
    assert len(problems) > 18
    assert "canary" not in "\n".join(problems)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="ab:-[]{}#&*!|>'\"\n\t 0.?,<%@=", max_size=60))
def test_no_text_ends_in_a_traceback(place: Place, text: str) -> None:
    place.file.write_bytes(text.encode())
    with pytest.raises(ConfigError):  # none of these can spell `agents`
        place.load()
