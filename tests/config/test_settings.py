"""The environment: what each variable means, what is refused, and that secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_service.config.loader import load_settings
from agent_service.config.settings import variables
from agent_service.errors import ConfigError

from .conftest import KEY, Place

CANARY = "canary-7f3a9c"

# The environment of the list of improvements that this service began from, less what is secret or was renamed, or
# has another default, which ADR 5 tells of.
SEED = {
    "API_HOST": "0.0.0.0",
    "API_PORT": 9000,
    "LLM_PROVIDER": "openai",
    "RATE_LIMIT_CALLS": 100,
    "RATE_LIMIT_WINDOW": 60,
    "LOG_FORMAT": "json",
    "METRICS_ENABLED": True,
    "AGENT_SERVICE_LOG_LEVEL": "INFO",
}


def refused(environ: dict[str, str], dotenv: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, dotenv_path=dotenv)
    return list(caught.value.problems)


def test_an_empty_environment_has_the_defaults_of_the_seed() -> None:
    told = load_settings({}, dotenv_path=None).model_dump(by_alias=True)
    assert {name: told[name] for name in SEED} == SEED


def test_every_name_of_the_seed_is_known() -> None:
    names = {"API_KEY", "OPENAI_API_KEY", "DATABASE_URL", "AGENT_SERVICE_ENV", "AGENT_SERVICE_CONFIG_PATH"}
    names |= {"LLM_MODEL", "RATE_LIMIT_TOKENS"}
    assert names | SEED.keys() <= variables().keys()


def test_the_names_of_the_seed_that_were_changed_are_told_and_not_ignored() -> None:
    assert refused({"AGENT_SDK_ENV": "production"}) == ["environment AGENT_SDK_ENV: is named AGENT_SERVICE_ENV here"]


def test_an_empty_value_counts_as_unset() -> None:
    settings = load_settings({"API_PORT": "", "API_KEY": "  ", "LLM_PROVIDER": ""}, dotenv_path=None)
    assert settings.api_port == 9000
    assert settings.api_key is None
    assert not settings.is_set("llm_provider")


def test_white_space_around_a_value_is_dropped() -> None:
    settings = load_settings({"API_KEY": "key\r\n", "API_PORT": " 1 "}, dotenv_path=None)
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "key"
    assert settings.api_port == 1


def test_the_environment_wins_over_dotenv_but_not_with_an_empty_value(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("export API_PORT=1\nLLM_MODEL='mine' # which\nMETRICS_PORT=3\nAPI_HOST=${HOME}x\n")
    with pytest.raises(ConfigError, match="API_HOST"):  # nothing is filled in
        load_settings({}, dotenv_path=dotenv)
    settings = load_settings({"API_PORT": "2", "LLM_MODEL": "", "API_HOST": "::1"}, dotenv_path=dotenv)
    assert (settings.api_port, settings.llm_model, settings.metrics_port) == (2, "mine", 3)


def test_a_problem_in_dotenv_has_its_line(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("# a comment\n\n\nAPI_PORT=x\nA='open\nLLM_PROVIDER=nobody\n")
    assert refused({}, dotenv) == [
        f"{dotenv}:4 API_PORT: must be a whole number",
        f"{dotenv}:5: is not NAME=value",
        f"{dotenv}:6 LLM_PROVIDER: must be 'openai' or 'scripted'",
    ]


def test_a_dotenv_that_is_no_file_is_a_problem_and_a_missing_one_is_none(tmp_path: Path) -> None:
    assert refused({}, tmp_path) == [f"{tmp_path}: is a directory"]
    assert load_settings({}, dotenv_path=tmp_path / "missing").api_port == 9000


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AGENT_SERVICE_ENV", "prod", "must be 'development' or 'production'"),
        ("AGENT_SERVICE_LOG_LEVEL", "LOUD", "must be 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'"),
        ("API_PORT", "65536", "must be at most 65535"),
        ("API_PORT", "-1", "must be at least 0"),
        ("API_PORT", "ninety", "must be a whole number"),
        ("API_PORT", "1.5", "must be a whole number"),
        ("API_HOST", "0.0.0.0:9000", "must be an IP address or a host name, without a port"),
        ("METRICS_ENABLED", "maybe", "must be true or false"),
        ("METRICS_PORT", "9000", "must differ from API_PORT"),
        ("DRAIN_GRACE", "nan", "must be a finite number"),
        ("DRAIN_DELAY", "-1", "must be at least 0"),
        ("RATE_LIMIT_WINDOW", "0", "must be at least 1"),
        ("RATE_LIMIT_CALLS", "0", "must be at least 1"),
        ("RATE_LIMIT_TOKENS", "9" * 5000, "is too large"),
        ("TASKS_RUNNING_MAX", "0", "must be at least 1"),
        ("TASK_LENGTH_MAX", "1000000", "must be at most 500000"),
        ("TASKS_QUEUED_MAX", "0", "must be at least 1"),
        ("TASKS_QUEUED_MAX", "1.5", "must be a whole number"),
        ("REATTACH_GRACE", "-1", "must be at least 0"),
        ("REATTACH_GRACE", "301", "must be at most 300"),
        ("TASK_RETENTION_DAYS", "-0.5", "must be at least 0"),
        ("TASK_RETENTION_DAYS", "nan", "must be a finite number"),
        ("LOG_FORMAT", "xml", "must be 'json' or 'console'"),
        ("LLM_PROVIDER", "azure", "must be 'openai' or 'scripted'"),
        ("LLM_BASE_URL", "localhost:1", "must be a URL such as https://host/v1"),
        ("LLM_BASE_URL", "http://[::1", "must be a URL such as https://host/v1"),
        ("API_KEY", "schlüssel", "must consist of visible ASCII characters, because it is sent in a header"),
        ("API_KEY", "two words", "must consist of visible ASCII characters, because it is sent in a header"),
        ("OPENAI_API_KEY", "x" * 5000, "must have at most 4096 characters"),
        ("LLM_MODEL", "\udcff", "is not valid Unicode"),
        ("REDIS_URL", "redis://x", "this version does not support Redis; limits are per process"),
        ("HEALTH_PORT", "9000", "must differ from API_PORT"),
        ("HEALTH_PORT", "9464", "must differ from METRICS_PORT"),
        ("HEALTH_PORT", "-1", "must be at least 0"),
    ],
)
def test_a_value_out_of_bounds_is_told_with_its_variable(name: str, value: str, told: str) -> None:
    assert refused({name: value}) == [f"environment {name}: {told}"]


def test_callers_have_ten_seconds_a_tenant_a_thousand_tasks_in_line_and_finished_ones_thirty_days() -> None:
    settings = load_settings({}, dotenv_path=None)
    assert (settings.reattach_grace_s, settings.tasks_queued_max, settings.task_retention_days) == (10, 1000, 30)


def test_a_grace_may_be_nothing_and_a_retention_a_part_of_a_day_or_without_an_end() -> None:
    settings = load_settings({"REATTACH_GRACE": "0", "TASK_RETENTION_DAYS": "0.5"}, dotenv_path=None)
    assert (settings.reattach_grace_s, settings.task_retention_days) == (0, 0.5)
    assert load_settings({"TASK_RETENTION_DAYS": "0"}, dotenv_path=None).task_retention_days == 0


def test_all_problems_are_told_at_once() -> None:
    environ = {"API_PORT": "x", "LOG_FORMAT": "x", "REDIS_URL": "x", "AGENT_SERVICE_PROT": "x"}
    assert len(refused(environ)) == 4


def test_the_level_may_be_written_small() -> None:
    assert load_settings({"AGENT_SERVICE_LOG_LEVEL": "debug"}, dotenv_path=None).log_level == "DEBUG"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost", "agent-1.example.org"])
def test_a_host_is_an_address_or_a_name(host: str) -> None:
    assert load_settings({"API_HOST": host}, dotenv_path=None).api_host == host


class TestDatabase:
    def test_three_slashes_are_relative_and_four_absolute(self) -> None:
        assert load_settings({}, dotenv_path=None).database_path == Path("agent_service.db")
        absolute = load_settings({"DATABASE_URL": "sqlite:////var/lib/a.db"}, dotenv_path=None)
        assert absolute.database_path == Path("/var/lib/a.db")

    def test_memory_has_no_path(self) -> None:
        assert load_settings({"DATABASE_URL": "memory:"}, dotenv_path=None).database_path is None

    @pytest.mark.parametrize("url", [f"postgresql://me:{CANARY}@host/db", "mysql://x", "a.db", "sqlite://a.db"])
    def test_another_scheme_is_told_what_is_supported_and_not_repeated(self, url: str) -> None:
        [problem] = refused({"DATABASE_URL": url})
        assert problem == (
            "environment DATABASE_URL: has no adapter in this version; supported: sqlite:///<path> and memory:"
        )

    @pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:", "sqlite:///data/", "sqlite:///a.db?mode=ro"])
    def test_what_is_no_file_is_refused(self, url: str) -> None:
        [problem] = refused({"DATABASE_URL": url})
        assert problem.startswith("environment DATABASE_URL: must ")


class TestUnknownVariables:
    def test_a_near_miss_is_told(self) -> None:
        assert refused({"AGENT_SERVICE_LOGLEVEL": "INFO"}) == [
            "environment AGENT_SERVICE_LOGLEVEL: is not a variable of this service;"
            " did you mean AGENT_SERVICE_LOG_LEVEL?"
        ]
        [problem] = refused({"AGENT_SERVICE_API_PORT": "1"})
        assert problem.endswith("did you mean API_PORT?")

    def test_the_clients_variable_and_those_of_others_are_left_alone(self) -> None:
        load_settings({"AGENT_SERVICE_TARGET": "localhost:9000", "PATH": "/bin", "REDIS_HOST": "x"}, dotenv_path=None)

    def test_what_kubernetes_sets_for_a_service_of_the_same_name_is_left_alone(self) -> None:
        load_settings(
            {
                "AGENT_SERVICE_SERVICE_HOST": "10.0.0.1",
                "AGENT_SERVICE_SERVICE_PORT": "9000",
                "AGENT_SERVICE_SERVICE_PORT_GRPC": "9000",
                "AGENT_SERVICE_PORT": "tcp://10.0.0.1:9000",
                "AGENT_SERVICE_PORT_9000_TCP": "tcp://10.0.0.1:9000",
                "AGENT_SERVICE_PORT_9000_TCP_PROTO": "tcp",
                "AGENT_SERVICE_PORT_9000_TCP_ADDR": "10.0.0.1",
                "TLS_PROXY_SERVICE_HOST": "10.0.0.2",
                "TLS_PROXY_PORT": "tcp://10.0.0.2:443",
            },
            dotenv_path=None,
        )

    def test_a_port_of_that_name_that_somebody_chose_is_not(self) -> None:
        [problem] = refused({"AGENT_SERVICE_PORT": "9001"})
        assert problem.endswith("did you mean API_PORT?")

    def test_a_port_that_kubernetes_overwrote_says_so(self) -> None:
        [problem] = refused({"API_PORT": "tcp://10.0.0.1:80", "API_SERVICE_HOST": "10.0.0.1"})
        assert "enableServiceLinks" in problem


class TestProduction:
    def test_starts_with_a_long_key(self) -> None:
        assert load_settings({"AGENT_SERVICE_ENV": "production", "API_KEY": KEY}, dotenv_path=None).is_production

    def test_starts_with_a_file_of_keys_alone(self) -> None:
        load_settings({"AGENT_SERVICE_ENV": "production", "API_KEYS_FILE": "keys.yaml"}, dotenv_path=None)

    @pytest.mark.parametrize(
        ("environ", "told"),
        [
            ({}, "API_KEY: production needs a key of at least 32 characters, or API_KEYS_FILE or JWT_ISSUER"),
            ({"API_KEY": "x" * 31}, "API_KEY: production needs at least 32 characters"),
            ({"API_KEY": "x" * 31, "API_KEYS_FILE": "k"}, "API_KEY: production needs at least 32 characters"),
            (
                {"API_KEY": "your-secret-key-here"},
                "API_KEY: 'your-secret-key-here' is a placeholder; production needs a real value",
            ),
            (
                {"API_KEY": KEY, "OPENAI_API_KEY": "sk-..."},
                "OPENAI_API_KEY: 'sk-...' is a placeholder; production needs a real value",
            ),
            (
                {"API_KEY": "two words"},
                "API_KEY: must consist of visible ASCII characters, because it is sent in a header",
            ),
        ],
    )
    def test_refuses_keys_that_protect_nothing_each_with_one_problem(self, environ: dict[str, str], told: str) -> None:
        assert refused({"AGENT_SERVICE_ENV": "production", **environ}) == [f"environment {told}"]


def test_placeholders_count_as_unset_in_development() -> None:
    settings = load_settings({"API_KEY": "your-secret-key-here", "OPENAI_API_KEY": "sk-..."}, dotenv_path=None)
    assert settings.api_key is None
    assert settings.openai_api_key is None


def test_secrets_are_never_shown(place: Place) -> None:
    config = place.load(API_KEY=CANARY, OPENAI_API_KEY=CANARY)
    assert config.api_key("default") is not None
    for shown in (str(config), repr(config), str(config.settings), repr(config.settings), repr(config.api_keys)):
        assert CANARY not in shown


@pytest.mark.parametrize("name", sorted([*variables(), "REDIS_URL", "TLS_KEY", "AGENT_SERVICE_KEY", "AGENT_SDK_ENV"]))
def test_a_secret_in_whichever_variable_is_not_told_in_a_problem(name: str, place: Place) -> None:
    value = f"http://me:{CANARY} ü@host:1/?{CANARY}#"
    problems = "\n".join(place.problems({name: value, "API_PORT": value, "AGENT_SERVICE_ENV": "production"}))
    if name != "AGENT_SERVICE_CONFIG_PATH":  # a path is told: that is how it is found
        assert CANARY not in problems
    assert f"environment {name}: " in problems or name in (
        "AGENT_SERVICE_CONFIG_PATH",
        "AGENT_SERVICE_ENV",
        "LLM_MODEL",
    )
