"""The configuration as a whole: where it comes from, what it means, and what is told when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_service.config.checks import unknown_tools

from .conftest import KEY, Place

SEED_FILE = """\
models:
  smart: {name: smart, provider: openai, model_id: gpt-4, temperature: 0.7, max_tokens: 2048}
agents:
  assistant: {model: smart}
rate_limits:
  - {name: all, max_calls: 10, max_tokens: 1000, window_seconds: 60}
"""

MISTAKES = """\
models:
  smart:
    provider: opnai
    model_id: gpt-4
    temprature: 0.5
  local:
    provider: scripted
    base_url: http://localhost:1/v1
    max_tokens: 0
agents:
  assistant:
    model: fast
    model: smart
    tools: [calculator, Echo]
  helper:
    instructions: 5
rate_limits:
  - name: all
    match: {agent: nobody}
    max_calls: many
"""


class TestWithoutAFile:
    def test_there_is_one_agent_with_the_built_in_tools(self, place: Place) -> None:
        config = place.load()
        assert config.path is None
        assert config.default_agent == "assistant"
        assert config.agents["assistant"].tools == ("calculator", "current_time", "echo", "json_query")
        assert config.agents["assistant"].model == "default"

    def test_development_has_agents_for_demonstration_beside_it(self, place: Place) -> None:
        production = place.load(AGENT_SERVICE_ENV="production", API_KEY="k" * 32, LLM_PROVIDER="scripted")
        development = place.load()
        assert list(production.agents) == ["assistant"]
        assert list(development.agents) == ["assistant", "cashier", "accountant"]
        assert development.agents["assistant"] == production.agents["assistant"]

    def test_development_without_a_key_falls_to_the_scripted_model_and_says_so(self, place: Place) -> None:
        config = place.load()
        assert config.models["default"].provider == "scripted"
        assert config.stand_ins == {"default"}

    def test_with_a_key_the_model_is_openais(self, place: Place) -> None:
        config = place.load(OPENAI_API_KEY="sk-real")
        model = config.models["default"]
        assert (model.provider, model.model_id, model.name) == ("openai", "gpt-6.2-sol", "default")
        key = config.api_key("default")
        assert key is not None
        assert key.get_secret_value() == "sk-real"
        assert not config.stand_ins

    def test_a_server_of_ones_own_needs_no_key(self, place: Place) -> None:
        config = place.load(LLM_BASE_URL="http://localhost:11434/v1", LLM_MODEL="llama3.2")
        model = config.models["default"]
        assert (model.provider, model.model_id, model.base_url) == ("openai", "llama3.2", "http://localhost:11434/v1")
        assert config.api_key("default") is None

    def test_scripted_by_choice_is_no_stand_in(self, place: Place) -> None:
        config = place.load(LLM_PROVIDER="scripted", OPENAI_API_KEY="sk-real")
        assert config.models["default"].provider == "scripted"
        assert not config.stand_ins
        assert config.api_key("default") is None

    def test_the_scripted_model_has_no_url(self, place: Place) -> None:
        [problem] = place.problems(LLM_PROVIDER="scripted", LLM_BASE_URL="http://x/v1")
        assert problem.startswith("environment LLM_BASE_URL: does not fit")

    def test_the_examples_of_the_seed_run_in_development(self, place: Place) -> None:
        config = place.load(API_KEY="your-secret-key-here", OPENAI_API_KEY="sk-...", LLM_PROVIDER="openai")
        assert config.stand_ins == {"default"}

    def test_dotenv_and_config_yaml_of_the_working_directory_are_read(self, place: Place) -> None:
        place.write("OPENAI_API_KEY=sk-real\nAPI_PORT=1234\n", ".env")
        place.write(SEED_FILE)
        config = place.load()
        assert config.settings.api_port == 1234
        assert config.path == Path("config.yaml")
        assert config.api_key("smart") is not None


class TestProduction:
    def test_starts_with_keys(self, place: Place, production: dict[str, str]) -> None:
        assert place.load(production).models["default"].provider == "openai"

    def test_refuses_to_fall_to_the_scripted_model(self, place: Place, production: dict[str, str]) -> None:
        del production["OPENAI_API_KEY"]
        [problem] = place.problems(production)
        assert problem.startswith("environment OPENAI_API_KEY: production needs it for the model 'default'")

    def test_a_placeholder_is_one_problem(self, place: Place, production: dict[str, str]) -> None:
        [problem] = place.problems(production, OPENAI_API_KEY="sk-...")
        assert "is a placeholder" in problem

    def test_runs_the_scripted_model_when_told_to(self, place: Place, production: dict[str, str]) -> None:
        del production["OPENAI_API_KEY"]
        config = place.load(production, LLM_PROVIDER="scripted")
        assert config.models["default"].provider == "scripted"
        assert not config.stand_ins

    def test_needs_the_key_of_each_declared_model(self, place: Place, production: dict[str, str]) -> None:
        place.write("""\
            models:
              a: {provider: openai, model_id: m, api_key_env: OTHER_KEY}
              b: {provider: openai, model_id: m, api_key_env: THIRD_KEY}
              c: {provider: openai, model_id: m, base_url: "http://localhost:1/v1"}
              d: {provider: openai, model_id: m, base_url: "http://localhost:1/v1", api_key_env: FOURTH_KEY}
            agents: {one: {model: a}}
            """)
        assert place.problems(production, THIRD_KEY="sk-...") == [
            "environment THIRD_KEY: 'sk-...' is a placeholder; production needs a real value",
            "config.yaml:2 models.a: production needs OTHER_KEY in the environment for this model",
            "config.yaml:5 models.d: production needs FOURTH_KEY in the environment for this model",
        ]

    def test_refuses_a_declared_scripted_model(self, place: Place, production: dict[str, str]) -> None:
        place.write("models: {s: {provider: scripted}}\nagents: {a: {model: s}}\n")
        [problem] = place.problems(production)
        assert problem.startswith("config.yaml:1 models.s.provider: production rejects declared scripted models")


class TestModels:
    def test_the_schema_of_the_seed_is_a_subset(self, place: Place) -> None:
        place.write(SEED_FILE)
        config = place.load(OPENAI_API_KEY="sk-real")
        model = config.models["smart"]
        assert (model.name, model.model_id, model.temperature, model.max_tokens) == ("smart", "gpt-4", 0.7, 2048)
        assert config.rate_limits[-1].max_calls == 10

    def test_the_tries_are_those_of_the_seed_and_the_name_is_the_key(self, place: Place) -> None:
        place.write("models: {m: {provider: openai, model_id: x}}\nagents: {a: {model: m}}\n")
        model = place.load(OPENAI_API_KEY="sk-real").models["m"]
        assert model.name == "m"
        assert (model.retry.attempts, model.retry.base_delay_s, model.retry.max_delay_s) == (3, 1.0, 8.0)

    def test_a_declared_model_without_its_key_is_scripted_in_development(self, place: Place) -> None:
        place.write("""\
            models:
              a: {provider: openai, model_id: m, api_key_env: OTHER_KEY}
              b: {provider: openai, model_id: m}
            agents: {one: {model: a}}
            """)
        config = place.load(OTHER_KEY="sk-...", OPENAI_API_KEY="sk-real")
        assert config.stand_ins == {"a"}
        assert config.models["b"].provider == "openai"

    def test_the_environment_may_define_the_model_of_a_file_without_models(self, place: Place) -> None:
        place.write("agents: {a: {model: default}}\n")
        assert place.load(LLM_MODEL="mine", OPENAI_API_KEY="sk-real").models["default"].model_id == "mine"

    def test_a_file_without_models_needs_that(self, place: Place) -> None:
        place.write("agents: {a: {model: default}}\n")
        [problem] = place.problems()
        assert problem.startswith("config.yaml:1 models: is missing")

    def test_models_of_both_are_an_error_that_names_both(self, place: Place) -> None:
        place.write("# mine\n" + SEED_FILE)
        assert place.problems(LLM_PROVIDER="openai", LLM_MODEL="gpt-4") == [
            "environment LLM_PROVIDER: defines a model, but config.yaml:2 models also does; remove one of the two",
            "environment LLM_MODEL: defines a model, but config.yaml:2 models also does; remove one of the two",
        ]

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ("provider: openai", "models.m.model_id: is missing"),
            ("provider: scripted, max_tokens: 32768", "models.m.max_tokens: must be below context_tokens, here 32768"),
            ("provider: openai, model_id: x, script: s", "models.m.script: does not fit the provider openai"),
            ("provider: scripted, api_key_env: X", "models.m.api_key_env: does not fit the provider scripted"),
            ("provider: scripted, base_url: 'http://x'", "models.m.base_url: does not fit the provider scripted"),
            ("provider: openai, model_id: x, base_url: 'http://me:pw@x'", "models.m.base_url: must have no user"),
            ("provider: openai, model_id: x, base_url: 'http://x?key=1'", "models.m.base_url: must have no user"),
            ("provider: openai, model_id: x, api_key_env: sk-abc", "models.m.api_key_env: must be the name of"),
            ("provider: openai, model_id: x, temperature: 2.5", "models.m.temperature: must be at most 2"),
            ("provider: openai, model_id: x, temperature: .nan", "models.m.temperature: must be a finite number"),
            ("provider: openai, model_id: x, max_tokens: true", "models.m.max_tokens: must be a whole number"),
            ("provider: openai, model_id: 4", "models.m.model_id: must be text (quote what"),
            ("provider: openai, model_id: x, retry: {base_delay_s: 9}", "models.m.retry: base_delay_s must not be"),
            ("provider: openai, model_id: x, timeout: {total_s: 0}", "models.m.timeout.total_s: must be more than 0"),
            ("provider: openai, model_id: x, timeout: {totl_s: 1}", "models.m.timeout.totl_s: is not a setting; did"),
            ("provider: scripted, script: gone.yaml", "models.m.script: the file does not exist"),
        ],
    )
    def test_what_does_not_fit_is_told(self, place: Place, fields: str, told: str) -> None:
        place.write(f"agents: {{a: {{model: m}}}}\nmodels:\n  m: {{{fields}}}\n")
        [problem] = place.problems()
        assert problem.startswith(f"config.yaml:3 {told}")

    def test_a_script_is_found_beside_the_file(self, place: Place) -> None:
        (place.directory / "etc").mkdir()
        place.write("x", "etc/s.yaml")
        place.write("models: {m: {provider: scripted, script: s.yaml}}\nagents: {a: {model: m}}\n", "etc/c.yaml")
        config = place.load(AGENT_SERVICE_CONFIG_PATH="etc/c.yaml")
        assert config.models["m"].script == "etc/s.yaml"


class TestAgents:
    def load(self, place: Place, agents: str) -> str:
        place.write(f"agents:\n{agents}")
        return place.load(LLM_PROVIDER="scripted").default_agent

    def test_the_only_agent_is_the_default(self, place: Place) -> None:
        assert self.load(place, "  a: {model: default}\n") == "a"

    def test_the_marked_agent_is_the_default(self, place: Place) -> None:
        assert self.load(place, "  a: {model: default}\n  b: {model: default, default: true}\n") == "b"

    def test_the_first_is_the_default_where_none_is_marked(self, place: Place) -> None:
        assert self.load(place, "  b: {model: default}\n  a: {model: default}\n") == "b"

    def test_two_defaults_are_a_problem(self, place: Place) -> None:
        place.write("agents:\n  a: {model: default, default: true}\n  b: {model: default, default: true}\n")
        assert place.problems(LLM_PROVIDER="scripted") == [
            "config.yaml:3 agents.b.default: agents.a is already the default"
        ]

    def test_names_are_texts_whatever_yaml_takes_them_for(self, place: Place) -> None:
        assert self.load(place, "  no: {model: default}\n  1: {model: default}\n") == "no"

    def test_a_lower_maximum_lowers_the_default_timeout(self, place: Place) -> None:
        place.write("agents: {a: {model: default, timeout_max_s: 60}}\n")
        assert place.load(LLM_PROVIDER="scripted").agents["a"].timeout_s == 60

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ("timeout_s: 60, timeout_max_s: 30", "agents.a.timeout_s: must not be above timeout_max_s"),
            ("timeout_max_s: 3601", "agents.a.timeout_max_s: must be at most 3600"),
            ("tools: [echo, echo]", "agents.a.tools: must name each tool once"),
            ("tools: echo", "agents.a.tools: must be a list"),
            ("tools: [Echo]", "agents.a.tools[0]: must match ^[a-z]"),
            ("class: Planner", "agents.a.class: must match"),
            ("limits: {turns: 0}", "agents.a.limits.turns: must be at least 1"),
            ("limits: 5", "agents.a.limits: must be a mapping"),
            ("instuctions: hello", "agents.a.instuctions: is not a setting; did you mean instructions?"),
            ("default: maybe", "agents.a.default: must be true or false"),
        ],
    )
    def test_what_does_not_fit_is_told(self, place: Place, fields: str, told: str) -> None:
        place.write(f"agents:\n  a:\n    {{model: default, {fields}}}\n")
        [problem] = place.problems(LLM_PROVIDER="scripted")
        assert problem.startswith(f"config.yaml:3 {told}")

    def test_a_name_that_cannot_travel_is_refused(self, place: Place) -> None:
        place.write("agents:\n  my agent: {model: default}\n")
        [problem] = place.problems(LLM_PROVIDER="scripted")
        assert problem.startswith("config.yaml:2 agents.my agent: this name must match")

    def test_there_must_be_one(self, place: Place) -> None:
        place.write("agents: {}\n")
        assert place.problems(LLM_PROVIDER="scripted") == ["config.yaml:1 agents: must not be empty"]

    def test_tools_are_checked_against_the_registry_later_with_their_lines(self, place: Place) -> None:
        place.write("agents:\n  a:\n    model: default\n    tools:\n      - echo\n      - calc\n")
        config = place.load(LLM_PROVIDER="scripted")
        assert [str(problem) for problem in unknown_tools(config.document, ["echo", "calculator"])] == [
            "config.yaml:6 agents.a.tools[1]: 'calc' is not a tool; tools: calculator, echo"
        ]


class TestRateLimits:
    def test_the_environment_makes_the_rule_default_per_tenant(self, place: Place) -> None:
        [rule] = place.load(RATE_LIMIT_CALLS="5", RATE_LIMIT_TOKENS="7", RATE_LIMIT_WINDOW="9").rate_limits
        assert (rule.name, rule.per, rule.max_calls, rule.max_tokens, rule.window_seconds) == (
            "default",
            ("tenant",),
            5,
            7,
            9.0,
        )
        assert rule.max_model_calls is None

    def test_rules_of_the_file_add_to_it(self, place: Place) -> None:
        place.write(SEED_FILE.replace("max_tokens: 1000, ", ""))
        assert [rule.name for rule in place.load().rate_limits] == ["default", "all"]

    def test_a_rule_that_counts_the_same_replaces_its_maxima(self, place: Place) -> None:
        rule = "{name: mine, max_tokens: 5000000, window_seconds: 60}"
        place.write(f"agents: {{a: {{model: default}}}}\nrate_limits: [{rule}]\n")
        [default, mine] = place.load(LLM_PROVIDER="scripted").rate_limits
        assert (default.name, default.max_calls, default.max_tokens) == ("default", 100, None)
        assert mine.max_tokens == 5_000_000

    def test_nothing_is_left_of_it_where_all_of_it_is_replaced(self, place: Place) -> None:
        place.write(SEED_FILE)
        assert [rule.name for rule in place.load().rate_limits] == ["all"]

    @pytest.mark.parametrize("more", ["match: {model: default}", "per: []", "per: [tenant, agent]"])
    def test_a_rule_that_counts_otherwise_stands_beside_it(self, place: Place, more: str) -> None:
        place.write(f"agents: {{a: {{model: default}}}}\nrate_limits: [{{name: b, max_tokens: 5, {more}}}]\n")
        assert place.load(LLM_PROVIDER="scripted").rate_limits[0].max_tokens == 1_000_000

    def test_a_rule_of_the_same_name_replaces_it(self, place: Place) -> None:
        place.write(SEED_FILE.replace("name: all", "name: default"))
        [rule] = place.load().rate_limits
        assert rule.max_calls == 10

    @pytest.mark.parametrize(
        ("rule", "told"),
        [
            ("{name: b}", "rate_limits[1]: must have max_calls, max_model_calls or max_tokens"),
            ("{name: a, max_calls: 1}", "rate_limits[1].name: is already the name of rate_limits[0]"),
            ("{name: b, max_calls: 1, per: [user]}", "rate_limits[1].per[0]: must be 'tenant', 'agent' or 'model'"),
            (
                "{name: b, max_calls: 1, match: {agent: x}}",
                "rate_limits[1].match.agent: 'x' is not an agent; agents: a",
            ),
            (
                "{name: b, max_calls: 1, match: {model: x}}",
                "rate_limits[1].match.model: 'x' is not a model; models: default",
            ),
            ("{max_calls: 1}", "rate_limits[1].name: is missing"),
            ("{name: b, max_calls: 1, window_seconds: 0}", "rate_limits[1].window_seconds: must be at least 1"),
        ],
    )
    def test_what_does_not_fit_is_told(self, place: Place, rule: str, told: str) -> None:
        place.write(f"agents: {{a: {{model: default}}}}\nrate_limits:\n  - {{name: a, max_calls: 1}}\n  - {rule}\n")
        assert place.problems(LLM_PROVIDER="scripted") == [f"config.yaml:4 {told}"]


def test_every_mistake_is_told_at_once_each_with_its_line(place: Place) -> None:
    place.write(MISTAKES)
    assert place.problems(API_PORT="x", OPENAI_API_KEY="sk-real") == [
        "environment API_PORT: must be a whole number",
        "config.yaml:3 models.smart.provider: must be 'openai', 'azure' or 'scripted'",
        "config.yaml:5 models.smart.temprature: is not a setting; did you mean temperature?",
        "config.yaml:8 models.local.base_url: does not fit the provider scripted, which calls no server",
        "config.yaml:9 models.local.max_tokens: must be at least 1",
        "config.yaml:12 agents.assistant.model: 'fast' is not a model; models: local, smart",
        "config.yaml:13 agents.assistant.model: is a duplicate of line 12",
        "config.yaml:14 agents.assistant.tools[1]: must match ^[a-z][a-z0-9_]{0,63}$",
        "config.yaml:15 agents.helper.model: is missing",
        "config.yaml:16 agents.helper.instructions: must be text (quote what YAML reads as a number, date or boolean)",
        "config.yaml:19 rate_limits[0].match.agent: 'nobody' is not an agent; agents: assistant, helper",
        "config.yaml:20 rate_limits[0].max_calls: must be a whole number",
    ]


def test_files_that_the_environment_names_must_be_usable(place: Place) -> None:
    (place.directory / "dir").mkdir()
    assert place.problems(API_KEYS_FILE="gone.yaml", DATABASE_URL="sqlite:///gone/a.db") == [
        "environment API_KEYS_FILE: the file does not exist",
        "environment DATABASE_URL: the file is in a directory that does not exist",
    ]
    assert place.problems(API_KEYS_FILE="dir", DATABASE_URL="sqlite:///dir") == [
        "environment API_KEYS_FILE: the file is a directory",
        "environment DATABASE_URL: the file is a directory",
    ]


def test_files_that_may_not_be_used_are_told(unprivileged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(unprivileged)
    place = Place(unprivileged)
    place.write(SEED_FILE).chmod(0)
    place.directory.chmod(0o500)
    try:
        assert place.problems() == [
            "environment DATABASE_URL: the file is in a directory that this user cannot write to",
            "config.yaml: cannot be read by this user",
        ]
    finally:
        place.directory.chmod(0o700)


def test_a_file_that_was_named_must_be_there_and_one_that_was_not_need_not(place: Place) -> None:
    assert place.problems(AGENT_SERVICE_CONFIG_PATH="gone.yaml", API_KEY=KEY, LOG_FORMAT="x") == [
        "environment LOG_FORMAT: must be 'json' or 'console'",
        "gone.yaml: does not exist (AGENT_SERVICE_CONFIG_PATH names it)",
    ]
    (place.directory / "config.yaml").symlink_to("gone.yaml")
    assert place.problems() == ["config.yaml: does not exist"]
