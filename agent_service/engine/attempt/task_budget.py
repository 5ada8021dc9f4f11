"""The budget of one task and of its tenant, checked before every request to a model.

A request is made if the task's usage plus the maximum of this request fits the task's own bounds, and if that maximum
fits the rest of the tenant's budgets beside all other requests. The maximum is the estimated input plus the longest
reply, at the price of the requested model.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent_service.engine.task.state import FoldedTask
from agent_service.engine.tenant_budgets import Hold, Spending, TenantBudgets
from agent_service.errors import TaskLimitError
from agent_service.llm.price import Price
from agent_service.llm.token_counts import tokens_in, utf8_length
from agent_service.text.amounts import money
from agent_service.v1.error_reason_pb2 import ERROR_REASON_BUDGET_EXHAUSTED, ERROR_REASON_STOPPED
from agent_service.v1.task_event_pb2 import ModelFailed, ModelStarted, TaskEvent
from agent_service.v1.task_pb2 import Failure, Usage


class TaskBudget:
    """Handles one request at a time. `prices` holds the prices of all models that may be requested, by key."""

    def __init__(self, folded: FoldedTask, prices: Mapping[str, Price], tenants: TenantBudgets) -> None:
        self._folded = folded
        self._prices = prices
        self._tenants = tenants
        self._price: Price | None = None
        self._maximum = Spending(0, 0)
        self._hold: Hold | None = None

    def check(self, model: str, *, input_tokens: int, output_tokens: int) -> int | None:
        """Check a request against the task's own bounds. Return its maximum cost; None if the model has no price.

        Raises:
            TaskLimitError: BUDGET_EXHAUSTED.
        """
        self._price = self._prices.get(model)
        cost = self._price.cost_nanos_max(input_tokens, output_tokens) if self._price else None
        self._maximum = Spending(input_tokens + output_tokens, cost or 0)
        limits = self._folded.submitted.limits
        if not (limits.tokens or limits.cost_nanos):
            return cost
        used = self._folded.task.usage
        tokens = used.input_tokens + used.output_tokens
        if limits.tokens and tokens + self._maximum.tokens > limits.tokens:
            raise _exhausted("tokens", str(limits.tokens), str(tokens), str(self._maximum.tokens))
        if limits.cost_nanos and cost is None:
            message = f"the task has a budget of cost, and model {model!r} no price"
            raise TaskLimitError(ERROR_REASON_BUDGET_EXHAUSTED, message)
        if limits.cost_nanos and used.cost_nanos + self._maximum.cost_nanos > limits.cost_nanos:
            amounts = money(limits.cost_nanos), money(used.cost_nanos), money(self._maximum.cost_nanos)
            raise _exhausted("cost", *amounts)
        return cost

    async def reserve(self) -> None:
        """Reserve the amounts of the last `check` in the tenant's budgets.

        Raises:
            RateLimitError: BUDGET_EXHAUSTED.
        """
        self._hold = await self._tenants.reserve(self._folded.submitted.tenant, self._maximum)

    def spend(self, usage: Usage) -> None:
        """Settle the request: fill in the cost of its usage, and free the rest of the reservation."""
        if self._price is not None:
            usage.cost_nanos = self._price.cost_nanos(usage)
        hold, self._hold = self._hold, None
        if hold is not None:
            spent = Spending(usage.input_tokens + usage.output_tokens, usage.cost_nanos)
            self._tenants.settle(hold, spent)

    def release(self) -> None:
        """Release the reservation of a request that was never made."""
        hold, self._hold = self._hold, None
        if hold is not None:
            self._tenants.release(hold)


def lost_request(folded: FoldedTask, request: ModelStarted) -> TaskEvent:
    """Return the event for a request whose process ended meanwhile. Its usage is unknown, so the whole reservation is
    counted, as an estimate.
    """
    said = sum(utf8_length(message.text) for message in folded.agent_state.messages)
    read = min(tokens_in(said), request.tokens_reserved)
    usage = Usage(input_tokens=read, output_tokens=request.tokens_reserved - read, estimated=True)
    if request.HasField("cost_nanos_reserved"):
        usage.cost_nanos = request.cost_nanos_reserved
    failure = Failure(reason=ERROR_REASON_STOPPED, message="the server ended while the model worked")
    failed = ModelFailed(turn=request.turn, try_number=request.try_number, failure=failure, usage=usage)
    return TaskEvent(model_failed=failed)


def _exhausted(unit: str, limit: str, used: str, maximum: str) -> TaskLimitError:
    message = f"the task's budget of {unit} is {limit}: {used} used, and the next request may take {maximum}"
    return TaskLimitError(ERROR_REASON_BUDGET_EXHAUSTED, message)
