"""Builds the models of a configuration: adapters, wrapped in retries, circuit breakers and fallbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agent_service.config.loader import Config
from agent_service.config.model_entry import Model as ModelConfig
from agent_service.config.sources.operator_files import read_text
from agent_service.engine.runtime import ModelRuntime
from agent_service.errors import ConfigError
from agent_service.llm.base import Model
from agent_service.llm.breaker import Breaking, Circuit, CircuitBreaker
from agent_service.llm.fallback import FallingBack
from agent_service.llm.provider_check import Ask
from agent_service.llm.retry import RETRY_AFTER_S_MAX, RetryBudget, Retrying
from agent_service.llm.script import Script
from agent_service.llm.scripted import ScriptedModel, default_script
from agent_service.llm.token_counts import estimate_for
from agent_service.text.files import Unusable

# Called when the circuit of a provider's model changes: provider, the provider's name of the model, the state.
OnCircuit = Callable[[str, str, Circuit], object]
# Called when a provider refuses a parameter of a model's requests: the model's key, the parameter, the error in words.
OnRefused = Callable[[str, str, str], object]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The health state of one model of one provider, shared by all configured models that use it."""

    provider: str
    budget: RetryBudget
    breaker: CircuitBreaker


@dataclass(frozen=True, slots=True)
class _Adapter:
    model: Model
    ask: Ask | None = None


class ModelBuilder:
    """Builds the models of successive configurations.

    An adapter with unchanged configuration is reused, with its connections. A removed adapter stays open for tasks that
    still use it, until the service ends: `stack` owns all adapters. The health state of an upstream is kept across
    configurations. `asks` and `upstreams` belong to the newest configuration, by model.
    """

    def __init__(
        self,
        stack: AsyncExitStack,
        on_circuit: OnCircuit = lambda *_: None,
        on_refused: OnRefused = lambda *_: None,
    ) -> None:
        self._stack = stack
        self._on_circuit = on_circuit
        self._on_refused = on_refused
        self._adapters: dict[tuple[object, ...], _Adapter] = {}
        self._places: dict[tuple[object, ...], dict[str, str]] = {}
        self._upstreams: dict[tuple[str, str, str], Upstream] = {}
        self.asks: Mapping[str, Ask] = {}
        self.upstreams: Mapping[str, Upstream] = {}

    async def build(self, config: Config) -> Mapping[str, ModelRuntime]:
        """Return the models by key.

        Raises:
            ConfigError: a script cannot be loaded.
        """
        adapters = {key: await self._adapter(config, key, model) for key, model in config.models.items()}
        self.asks = {key: adapter.ask for key, adapter in adapters.items() if adapter.ask is not None}
        self.upstreams = {key: self._upstream(key, model) for key, model in config.models.items()}
        return {key: self._with_fallbacks(config, key, adapters) for key in config.models}

    def _with_fallbacks(self, config: Config, key: str, adapters: Mapping[str, _Adapter]) -> ModelRuntime:
        keys = (key, *config.models[key].fallbacks)
        chain = [
            self._runtime(each, config.models[each], adapters[each].model, is_last=each == keys[-1]) for each in keys
        ]
        if len(chain) == 1:
            return chain[0]
        # A request must fit every model of the chain, together with the longest reply of that model.
        room = min(runtime.context_tokens - runtime.tokens_max for runtime in chain)
        model = FallingBack([runtime.model for runtime in chain])
        window = chain[0].tokens_max + room
        return replace(chain[0], model=model, context_tokens=window, fallbacks=tuple(chain[1:]))

    def _runtime(self, key: str, config: ModelConfig, adapter: Model, *, is_last: bool) -> ModelRuntime:
        """Return a model with its retries. The last model of a chain is waited for longer."""
        upstream, retry = self.upstreams[key], config.retry
        retrying = Retrying(
            adapter,
            key,
            upstream.budget,
            attempts=retry.attempts,
            base_delay_s=retry.base_delay_s,
            max_delay_s=retry.max_delay_s,
            retry_after_s_max=RETRY_AFTER_S_MAX if is_last else retry.max_delay_s,
            patience_s=retry.circuit_patience_s if is_last else 0.0,
        )
        breaking, estimate = Breaking(retrying, upstream.breaker), estimate_for(config.model_id)
        return ModelRuntime(
            key,
            breaking,
            config.max_tokens,
            config.context_tokens,
            estimate,
            provider=config.provider,
            model_id=config.model_id or key,
        )

    async def _adapter(self, config: Config, key: str, model: ModelConfig) -> _Adapter:
        """Return the existing adapter of this configuration, or a new one."""
        if model.provider == "scripted":  # never reused: its file may have changed
            return _Adapter(ScriptedModel(script(model.script)))
        # Imported here: a twentieth of the start, which only services with such a model pay.
        from agent_service.bootstrap.model_settings import endpoint, places, request_settings
        from agent_service.llm.openai.model import OpenAIModel

        where = endpoint(config, key)
        identity = (key, model.model_dump_json(exclude={"fallbacks", "retry"}), repr(where.headers.items()))
        of_model = self._places.setdefault(identity, {})
        of_model |= places(config, key)  # line numbers may change although the model has not
        if identity not in self._adapters:
            openai = OpenAIModel(
                settings=request_settings(model),
                endpoint=where,
                model_key=key,
                places=of_model,
                on_refused=partial(self._on_refused, key),
                total_s=model.timeout.total_s,
                first_token_s=model.timeout.first_token_s,
                idle_s=model.timeout.idle_s,
            )
            self._adapters[identity] = _Adapter(await self._stack.enter_async_context(openai), openai.check)
        return self._adapters[identity]

    def _upstream(self, key: str, model: ModelConfig) -> Upstream:
        provider, name = model.provider, model.model_id or key
        identity = (provider, model.base_url or "", name)
        if identity not in self._upstreams:
            breaker = CircuitBreaker(on_change=partial(self._on_circuit, provider, name))
            self._upstreams[identity] = Upstream(provider, RetryBudget(), breaker)
        return self._upstreams[identity]


def script(path: str | None) -> Script:
    """Return the script of a scripted model: from a file, or the default one.

    Raises:
        ConfigError: it is not valid.
    """
    if path is None:
        return default_script()
    try:
        text = read_text(Path(path))
    except Unusable as error:
        raise ConfigError([f"{path}: {error}"]) from error
    return Script.parse(text, path)
