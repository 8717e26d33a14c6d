"""Groups of settings; `greenroom.settings.Settings` has them all, and reads them."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from greenroom.core.limits import CallerKind, Limits, Rate
from greenroom.setting_values import NotNegativeS, PositiveS, RateText, WebhookSecrets


class AccessSettings(BaseSettings):
    """Who is let in."""

    auth: str | None = Field(
        default=None,
        min_length=1,
        description="Who is let in: `./file.py:attribute` or `package.module:attribute` of a"
        " `langgraph_sdk.Auth`, or `greenroom.auth:api_keys`, or `greenroom.auth:jwt`. It overrides"
        " `auth.path` of the configuration file; unset, the file decides.",
    )
    auth_timeout_s: PositiveS = Field(
        default=10.0,
        description="What a handler of `auth` may take for one decision; then the request is"
        " answered 503.",
    )
    api_keys: str | None = Field(
        default=None,
        repr=False,
        description="API keys for `greenroom.auth:api_keys` beside those of `data_dir`, as"
        " `greenroom keys create OWNER --print` writes them: hashes, no secrets.",
    )
    jwt_issuer: str | None = Field(
        default=None, min_length=1, description="For `greenroom.auth:jwt`: the issuer of tokens."
    )
    jwt_audience: str | None = Field(
        default=None, min_length=1, description="The audience that a token must name."
    )
    jwt_jwks_url: str | None = Field(
        default=None,
        min_length=1,
        description="Where the keys of the issuer are; unset, its discovery document says.",
    )
    jwt_algorithms: str = Field(
        default="RS256,ES256", description="How a token may be signed, with commas between."
    )
    jwt_leeway_s: NotNegativeS = Field(
        default=30.0, description="By how much the clocks of issuer and server may differ."
    )
    jwt_identity_claim: str = Field(
        default="sub", min_length=1, description="The claim of a token that names its user."
    )
    jwt_permissions_claim: str = Field(
        default="scope", min_length=1, description="The claim that has the user's permissions."
    )
    jwt_admin: str | None = Field(
        default=None,
        min_length=1,
        description="The permission of a token whose user reaches everything; unset, nobody does.",
    )


class CallerLimits(BaseSettings):
    """What one caller may use."""

    limit_by: CallerKind = Field(
        default="auto",
        description="Whose requests and runs are counted together for the limits below: those of an"
        " `owner` (with auth), of a `key` (the credential in `Authorization` or `X-Api-Key`), or of"
        " an `address`. `auto`: of an owner with auth, else of an address. A request without owner"
        " or key counts by its address.",
    )
    limit_requests: RateText | None = Field(
        default=None,
        description="Requests that one caller may send, such as `600/minute`; one more is answered"
        " 429. Cancels are counted and never refused. Unset: no limit.",
    )
    limit_body_bytes: RateText | None = Field(
        default=None,
        description="Bytes of request bodies that one caller may send, such as `100000000/hour`."
        " A body whose length is not declared is counted while it is read. Unset: no limit.",
    )
    limit_streams: int | None = Field(
        default=None,
        ge=1,
        description="Answers that one caller may have open at once: streams, and answers that wait"
        " for a run. Unset: no limit.",
    )
    limit_runs: int | None = Field(
        default=None,
        ge=1,
        description="Runs that are not over that one caller may have; one more is answered 429."
        " Runs of crons are not counted. Unset: no limit.",
    )
    limit_queued: int | None = Field(
        default=None,
        ge=1,
        description="Waiting runs beyond which one caller may not create another. Unset: no limit.",
    )

    @property
    def limits(self) -> Limits:
        """The limits of each caller."""
        return Limits(
            by=self.limit_by,
            requests=Rate.parse(self.limit_requests) if self.limit_requests else None,
            body_bytes=Rate.parse(self.limit_body_bytes) if self.limit_body_bytes else None,
            streams=self.limit_streams,
            runs=self.limit_runs,
            queued=self.limit_queued,
        )


class WebhookSettings(BaseSettings):
    """How webhooks are sent."""

    webhook_allow_private: bool = Field(
        default=False,
        description="Webhooks may go to this machine and to private networks.",
    )
    webhook_timeout_s: PositiveS = Field(
        default=10.0, description="What the receiver of a webhook gets for one attempt."
    )
    webhook_attempts: int = Field(
        default=6,
        ge=1,
        description="How often a webhook is sent before it is given up: again after an answer 5xx,"
        " 408, 425 or 429, or none.",
    )
    webhook_retry_s: PositiveS = Field(
        default=1.0,
        description="The pause after the first attempt; every following one is twice as long.",
    )

    webhook_retention_s: NotNegativeS = Field(
        default=86_400.0,
        description="How long a webhook that was delivered or given up can be looked at and sent"
        " again, with its contents; an hour at least.",
    )
    webhook_secrets: WebhookSecrets | None = Field(
        default=None,
        repr=False,
        description="Secrets that sign webhooks, separated by blanks: `whsec_` and the base64 of 24"
        " to 64 random bytes each. Every one signs, so that one can be replaced without a gap.",
    )
