"""Types of variables that several headings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from agent_service.config.sources.environment import secret_flaw


def _secret(value: SecretStr) -> SecretStr:
    if flaw := secret_flaw(value.get_secret_value()):
        raise ValueError(flaw)
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Variables(BaseModel):
    """The variables of a heading. Only the settings as a whole are used, and so only their validator is built."""

    model_config = ConfigDict(defer_build=True)
