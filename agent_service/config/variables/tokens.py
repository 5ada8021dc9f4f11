"""Tokens of an identity provider, beside API keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from agent_service.config.values import valid_http_url, valid_key_set

Claim = Annotated[str, Field(max_length=200)]


class TokensVariables(BaseModel):
    """Tokens of an identity provider, beside API keys."""

    jwt_issuer: Annotated[str, AfterValidator(valid_http_url)] | None = Field(
        default=None,
        alias="JWT_ISSUER",
        title="Tokens",
        description="The identity provider whose tokens (JWT) are accepted beside API keys: the `iss` of each; unset,"
        " none are.",
    )
    jwt_audience: Claim = Field(
        default="",
        alias="JWT_AUDIENCE",
        title="Tokens",
        description="What a token's `aud` must name: this service, as the provider knows it.",
    )
    jwt_jwks: Annotated[str, AfterValidator(valid_key_set)] | None = Field(
        default=None,
        alias="JWT_JWKS",
        title="Tokens",
        description="Where the provider's public keys (JWKS) are: an https URL or a file, read again every 5 minutes;"
        " unset, the issuer is asked (OpenID Connect Discovery).",
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
        description="The claim that lists the scopes, such as tasks.run: a list, or a text with spaces between.",
    )
    jwt_scope_prefix: Claim = Field(
        default="",
        alias="JWT_SCOPE_PREFIX",
        title="Tokens",
        description="The prefix of our scopes there; without a prefix the scope `admin` is ignored, because"
        " other services use that word.",
    )
    jwt_agents_claim: Claim = Field(
        default="",
        alias="JWT_AGENTS_CLAIM",
        title="Tokens",
        description="The claim that lists the agents a caller may use, * for all; unset, callers with a token may use"
        " all.",
    )
    jwt_tools_claim: Claim = Field(
        default="",
        alias="JWT_TOOLS_CLAIM",
        title="Tokens",
        description="The same for tools.",
    )
