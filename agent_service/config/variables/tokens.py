"""Tokens of an identity provider, in addition to API keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from agent_service.config.values import valid_http_url, valid_key_set
from agent_service.config.variables.field_types import Variables

Claim = Annotated[str, Field(max_length=200)]


class TokensVariables(Variables):
    """Tokens of an identity provider, in addition to API keys."""

    jwt_issuer: Annotated[str, AfterValidator(valid_http_url)] | None = Field(
        default=None,
        alias="JWT_ISSUER",
        title="Tokens",
        description="The identity provider whose tokens (JWT) are accepted in addition to API keys, as in their `iss`;"
        " unset: no tokens are accepted.",
    )
    jwt_audience: Claim = Field(
        default="",
        alias="JWT_AUDIENCE",
        title="Tokens",
        description="The required `aud` of a token: the provider's name of this service.",
    )
    jwt_jwks: Annotated[str, AfterValidator(valid_key_set)] | None = Field(
        default=None,
        alias="JWT_JWKS",
        title="Tokens",
        description="The provider's public keys (JWKS): an https URL or a file, reloaded every 5 minutes; unset: found"
        " by OpenID Connect Discovery at the issuer.",
    )
    jwt_tenant_claim: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        default="tenant",
        alias="JWT_TENANT_CLAIM",
        title="Tokens",
        description="The claim that names the tenant.",
    )
    jwt_scope_claim: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        default="scope",
        alias="JWT_SCOPE_CLAIM",
        title="Tokens",
        description="The claim that lists the scopes, such as tasks.run: a list, or a text separated by spaces.",
    )
    jwt_scope_prefix: Claim = Field(
        default="",
        alias="JWT_SCOPE_PREFIX",
        title="Tokens",
        description="The prefix of this service's scopes in that claim. Without a prefix the scope `admin` is"
        " ignored, because other services use that word.",
    )
    jwt_agents_claim: Claim = Field(
        default="",
        alias="JWT_AGENTS_CLAIM",
        title="Tokens",
        description="The claim that lists the agents that a caller may use, * for all; unset: callers with a token may"
        " use all.",
    )
    jwt_tools_claim: Claim = Field(
        default="",
        alias="JWT_TOOLS_CLAIM",
        title="Tokens",
        description="The claim that lists the tools that a caller may use, * for all; unset: all.",
    )
