"""Types of variables that several headings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from agent_service.config.sources.environment import secret_flaw


def _secret(value: SecretStr) -> SecretStr:
    if flaw := secret_flaw(value.get_secret_value()):
        raise ValueError(flaw)
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret)]
Port = Annotated[int, Field(ge=0, le=65535)]
