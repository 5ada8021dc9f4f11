"""Converts requests about existing tasks to plain values."""

from __future__ import annotations

from typing import Any

from agent_service.errors import FieldViolation, ValidationError
from agent_service.server.convert.tasks import validated
from agent_service.service.requests import AnswerInput, ListTasksInput
from agent_service.text.ids import ID_PATTERN, is_id
from agent_service.v1.agent_service_pb2 import TASK_VIEW_FULL, ListTasksRequest, ResumeTaskRequest
from agent_service.v1.task_pb2 import InputAnswer


def list_tasks_input(request: ListTasksRequest) -> ListTasksInput:
    """Return the validated values of a request.

    Raises:
        ValidationError: with every violation.
    """
    values: dict[str, Any] = {
        "page_size": request.page_size,
        "page_token": request.page_token,
        "agent": request.agent,
        "states": frozenset(request.states),
        "session_id": request.session_id,
        "labels": dict(request.labels),
        "tenant": request.tenant,
        "submitted_by": request.submitted_by,
        "full": request.view == TASK_VIEW_FULL,
    }
    violations: list[FieldViolation] = []
    for field in ("created_since", "created_before"):
        if request.HasField(field):
            try:
                values[field] = getattr(request, field).ToMicroseconds()
            except ValueError:
                violations.append(FieldViolation(field, "must be a time of the years 1 to 9999"))
    if violations:
        raise ValidationError(violations)
    return validated(ListTasksInput, values, "")


def checked_id(field: str, value: str) -> str:
    """Return a required id.

    Raises:
        ValidationError: it is not a valid id.
    """
    if not is_id(value):
        raise ValidationError([FieldViolation(field, f"must match {ID_PATTERN}")])
    return value


def resume_task_input(request: ResumeTaskRequest) -> tuple[str, InputAnswer]:
    """Return the id of the answered input, and the answer.

    Raises:
        ValidationError: with every violation.
    """
    violations: list[FieldViolation] = []
    try:
        checked_id("input_id", request.input_id)
    except ValidationError as error:
        violations += error.violations
    try:
        _check_answer(request.answer)
    except ValidationError as error:
        violations += error.violations
    if violations:
        raise ValidationError(violations)
    return request.input_id, request.answer


def _check_answer(answer: InputAnswer) -> None:
    arm = answer.WhichOneof("answer")
    text: dict[str, Any] = {}
    match arm:
        case None:
            raise ValidationError([FieldViolation("answer", "is required")])
        case "deny":
            text["comment"] = answer.deny.comment
        case "output_json" | "error_message" | "message":
            text[arm] = getattr(answer, arm)
    validated(AnswerInput, text, "answer.deny." if arm == "deny" else "answer.")
