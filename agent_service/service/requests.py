"""What callers may ask for, with every bound of the contract: plain values, validated by pydantic."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

TASK_LENGTH_MAX = 10_000
INPUTS_JSON_BYTES_MAX = 1024 * 1024

LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,63}$")]
LabelValue = Annotated[str, StringConstraints(max_length=256)]


class RunTaskInput(BaseModel):
    """A task to run. `task` comes out trimmed; `timeout` is in seconds."""

    model_config = ConfigDict(frozen=True)

    agent: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{0,128}$")] = ""
    task: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=TASK_LENGTH_MAX)]
    timeout: Annotated[float, Field(ge=1, le=3600)] | None = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(default_factory=dict)


class ToolInvokeInput(BaseModel):
    """A tool call. `inputs_json` is the text of a JSON object; `timeout` is in seconds."""

    model_config = ConfigDict(frozen=True)

    tool_name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    inputs_json: Annotated[str, StringConstraints(max_length=INPUTS_JSON_BYTES_MAX)] = "{}"
    timeout: Annotated[float, Field(ge=0.001, le=3600)] | None = None


def run_task_input(task_length_max: int) -> type[RunTaskInput]:
    """RunTaskInput with another bound for the task's length, in Unicode code points."""
    if task_length_max == TASK_LENGTH_MAX:
        return RunTaskInput
    bounded = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=task_length_max)]
    return create_model("RunTaskInput", __base__=RunTaskInput, task=(bounded, ...))
