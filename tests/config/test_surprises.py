"""Values and files that are not what they seem: numbers of YAML, escapes of JSON, quotation marks, pipes."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_service.config.sources import operator_files
from agent_service.config.values import QUOTED
from tests.harness import SOON_S

from .conftest import KEY, Place

CONFIG = """
models: {{m: {{provider: scripted, max_tokens: {tokens}, timeout: {{total_s: {seconds}}}}}}}
agents: {{a: {{model: m, description: {description}}}}}
"""
PLAIN = "must be in plain decimal, such as 8 or 0.5, without leading 0, colon or _; in quotes it is text"


def written(place: Place, *, tokens: str = "10", seconds: str = "60", description: str = "x") -> None:
    place.write(CONFIG.format(tokens=tokens, seconds=seconds, description=description))


@pytest.mark.parametrize("number", ["010", "0_10", "1_000", "0x1F", "0b11", "1:30", "+1:30", "00", "-010", "190:20:30"])
def test_a_number_that_yaml_reads_as_another_is_told(place: Place, number: str) -> None:
    written(place, tokens=number)

    assert place.problems() == [f"config.yaml:2 models.m.max_tokens: {PLAIN}"]


@pytest.mark.parametrize("number", ["1:30.5", "0_1.5", "1_0.5", "01.5", "1:30"])
def test_so_is_one_with_a_fraction(place: Place, number: str) -> None:
    written(place, seconds=number)

    assert place.problems() == [f"config.yaml:2 models.m.timeout.total_s: {PLAIN}"]


@pytest.mark.parametrize("number", ["10", "+10", "60.5", "1.5e+1"])
def test_a_plain_number_is_what_it_seems(place: Place, number: str) -> None:
    written(place, seconds=number)

    assert place.load().models["m"].timeout.total_s == float(number)


@pytest.mark.parametrize("word", ["yes", "No", "ON", "off"])
def test_a_word_that_yaml_reads_as_a_truth_is_told_in_a_schema_of_answers(place: Place, word: str) -> None:
    place.write(
        "models: {m: {provider: scripted}}\n"
        "agents: {a: {model: m, output_schema: {type: object, properties: {x: {enum: [WORD]}}}}}\n".replace(
            "WORD", word
        )
    )

    path = "agents.a.output_schema.properties.x.enum[0]"
    assert place.problems() == [f"config.yaml:2 {path}: must be true or false, or quoted if it is text"]


def test_an_emoji_in_the_escapes_of_json_is_read(place: Place) -> None:
    written(place, description=r'"\ud83c\udf0d \u00e9"')

    assert place.load().agents["a"].description == "🌍 é"


@pytest.mark.parametrize("half", [r'"\ud83c"', r'"\udf0d\ud83c"'])
def test_half_an_emoji_is_refused(place: Place, half: str) -> None:
    written(place, description=half)

    assert place.problems() == ["config.yaml:3 agents.a.description: is not valid Unicode"]


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("name", ["API_KEY", "OPENAI_API_KEY", "LLM_MODEL", "JWT_AUDIENCE"])
def test_quotation_marks_around_a_variable_are_told(place: Place, name: str, quote: str) -> None:
    told = [problem for problem in place.problems({name: f"{quote}{KEY}{quote}"}) if "quotation" in problem]

    assert told == [f"environment {name}: has quotation marks around it, which would be part of the value: remove them"]


def test_quotation_marks_around_the_key_and_a_header_of_a_model_are_told(place: Place) -> None:
    place.write("""\
        models: {m: {provider: openai, model_id: x, api_key_env: MY_KEY, headers_env: {X-Token: MY_TOKEN}}}
        agents: {a: {model: m}}
        """)

    assert sorted(place.problems(MY_KEY='"abc"', MY_TOKEN="'abc'")) == [
        f"environment MY_KEY: {QUOTED}",
        f"environment MY_TOKEN: {QUOTED}",
    ]


def test_quotation_marks_in_a_dotenv_file_are_not_part_of_a_value(place: Place) -> None:
    place.write("API_KEY='abc'\nLLM_MODEL=\"x\"\n", ".env")

    assert place.load().settings.llm_model == "x"


@pytest.mark.parametrize("method", ["chat/completions", "chat/completions/", "completions", "responses", "models"])
def test_a_base_url_that_names_a_method_is_told(place: Place, method: str) -> None:
    place.write(f"""\
        models: {{m: {{provider: openai, model_id: x, base_url: "https://host/v1/{method}"}}}}
        agents: {{a: {{model: m}}}}
        """)
    text = f"must end before /{method.rstrip('/')}, which the service adds"

    assert place.problems() == [f"config.yaml:1 models.m.base_url: {text}"]
    (place.directory / "config.yaml").unlink()
    assert place.problems(LLM_BASE_URL=f"https://host/v1/{method}") == [f"environment LLM_BASE_URL: {text}"]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


SPECIAL = [pipe, listening, device]


@pytest.mark.parametrize("make", SPECIAL, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["tasks.db", "tasks.db-wal", "tasks.db-shm", "tasks.db-journal"])
def test_a_database_that_is_no_regular_file_is_refused(place: Place, name: str, make: Callable[[Path], None]) -> None:
    make(place.directory / name)

    (problem,) = place.problems(DATABASE_URL="sqlite:///tasks.db")
    assert problem.startswith("environment DATABASE_URL: the file is not a regular file")
    assert (name in problem) == (name != "tasks.db")


@pytest.mark.parametrize("make", SPECIAL, ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    "variable", ["AGENT_SERVICE_CONFIG_PATH", "API_KEYS_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"]
)
def test_no_other_file_may_be_one(place: Place, variable: str, make: Callable[[Path], None]) -> None:
    make(place.directory / "special")

    assert any("is not a regular file" in problem for problem in place.problems({variable: "special"}))


def test_a_dotenv_file_that_is_a_pipe_is_read_once(place: Place) -> None:
    path = place.directory / ".env"
    os.mkfifo(path)
    writer = threading.Thread(
        target=lambda: path.write_text("LLM_MODEL=piped\n# " + "x" * 100_000 + "\nTASK_LENGTH_MAX=7")
    )
    writer.start()

    loaded = [place.load().settings for _ in range(3)]
    writer.join()

    assert {(settings.llm_model, settings.task_length_max) for settings in loaded} == {("piped", 7)}


def test_a_pipe_that_nobody_writes_keeps_no_start_waiting(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_files, "PIPE_S", 0.05)
    os.mkfifo(place.directory / ".env")

    began = time.monotonic()
    assert place.problems() == [".env: is a pipe whose writer did not close it within 0.05 s"]
    assert time.monotonic() - began < SOON_S


def test_a_dotenv_file_that_is_dev_null_has_nothing(place: Place) -> None:
    (place.directory / ".env").symlink_to(os.devnull)

    assert place.load().settings.llm_model == "gpt-6.2-sol"


@pytest.mark.parametrize("make", [listening, device], ids=lambda make: make.__name__)
def test_a_dotenv_file_that_is_another_kind_of_file_is_refused(place: Place, make: Callable[[Path], None]) -> None:
    make(place.directory / ".env")

    assert place.problems() == [".env: is not a regular file"]


@pytest.mark.parametrize(("written", "meant"), [("RATE_LIMIT_CALS", "RATE_LIMIT_CALLS"), ("LLM_MODLE", "LLM_MODEL")])
def test_a_misspelled_variable_is_told_though_it_may_be_meant_for_another(
    place: Place, written: str, meant: str
) -> None:
    place.write(f"{written}=1\n", ".env")
    [notice] = place.load(LLM_PROVIDER="scripted").notices
    assert str(notice) == f".env:1 {written}: is not a variable of this service; did you mean {meant}?"


def test_names_only_a_little_like_settings_or_in_use_are_no_misspellings(place: Place) -> None:
    place.write("models: {a: {provider: openai, model_id: m, api_key_env: OPENAI_API_KEY2}}\nagents: {b: {model: a}}\n")
    others = {"AZURE_OPENAI_API_KEY": "x", "PATH": "/", "STOCK_API_KEY": "x", "OTEL_TRACES_EXPORTERS": "x"}
    assert place.load(others, OPENAI_API_KEY2="sk").notices == ()
