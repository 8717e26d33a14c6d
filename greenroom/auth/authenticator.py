"""Lets requests in by the handlers of a `langgraph_sdk.Auth`: `core.access.Authenticator`.

    request ──> authenticate ──> Gate ──> one handler of @auth.on for each check ──> Scope

A handler that fails lets nobody in. A filter that is not understood matches nothing: the check is
refused with status 500, and the log says once what is wrong.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from langgraph_sdk import Auth
from langgraph_sdk.auth.types import AuthContext
from starlette.authentication import AuthenticationError
from starlette.exceptions import HTTPException

from greenroom.auth import sdk
from greenroom.auth.calls import Calls, TooLate
from greenroom.auth.users import NoUser, User, user_of
from greenroom.core.access import AuthSpec, CacheSpec, Gate, Value
from greenroom.core.errors import ConfigurationError, Refused
from greenroom.core.scopes import SERVER, Scope, UnknownFilter

log = logging.getLogger("greenroom.auth")

PARAMETERS = (
    *("request", "body", "path", "method", "path_params", "query_params", "headers"),
    *("authorization", "scope", "user", "scopes"),
)
"""The parameters that ``authenticate`` may declare."""

_LATE = "The handler that decides about this request takes too long. Try again in a moment."
_BROKEN = "The handler that decides about this request failed; the server's log says why."


class HandlerAuthenticator:
    """Authenticates by ``@auth.authenticate``.

    Args:
        auth: the handlers.
        spec: its entry in the configuration.
        calls: performs the calls.

    Raises:
        ConfigurationError: there is no ``authenticate``, or it needs something that there is not.
    """

    def __init__(self, auth: Auth, spec: AuthSpec, calls: Calls) -> None:
        self._auth = auth
        self._spec = spec
        self._calls = calls
        found = sdk.authenticate_of(auth)
        if found is None:
            raise ConfigurationError(
                f"{spec.subject}: {spec.target} has no function under '@auth.authenticate'; add"
                " one, which returns the user of a request."
            )
        self._authenticate = found
        self._wanted = wanted_of(found, spec)
        self._cache = Kept(spec.cache) if spec.cache is not None else None
        self._said: set[str] = set()

    @property
    def openapi(self) -> Mapping[str, Any]:
        return self._spec.openapi

    async def enter(self, request: Any) -> Gate:
        key = self._cache.key(request) if self._cache is not None else None
        if self._cache is not None and key is not None:
            kept = self._cache.find(key)
            if kept is not None:
                return HandlerGate(self, kept)
        user = await self._authenticated(request)
        if self._cache is not None and key is not None:
            self._cache.keep(key, user)
        return HandlerGate(self, user)

    async def _authenticated(self, request: Any) -> User:
        arguments = {name: await _argument(request, name) for name in self._wanted}
        try:
            return user_of(await self._calls.call(self._authenticate, arguments))
        except (Auth.exceptions.HTTPException, HTTPException) as error:
            raise refusal(error) from None
        except NoUser as error:
            log.error("'authenticate' returned no user.", extra={"reason": str(error)})
            raise Refused(str(error), 400) from None
        except TooLate:
            log.warning("'authenticate' takes too long.")
            raise Refused(_LATE, 503, {"retry-after": "1"}) from None
        except (AuthenticationError, AssertionError) as error:
            raise Refused(str(error) or "Forbidden", 403) from None
        except ValueError as error:
            # Not its text: it may come from any library, and repeat the credentials.
            log.warning("'authenticate' raised ValueError.", exc_info=error)
            raise Refused("The credentials are malformed.", 400) from None
        except Exception as error:  # whatever it is: it lets nobody in
            log.exception("'authenticate' failed.")
            raise Refused(_BROKEN, 500) from error

    async def allowed(self, user: User, resource: str, action: str, value: Value) -> Scope:
        """`Gate.allow` for a user."""
        handler = sdk.handler_of(self._auth, resource, action)
        if handler is None:
            return SERVER
        ctx = AuthContext(
            permissions=user.permissions,
            user=user.seen,
            resource=cast(Any, resource),
            action=cast(Any, action),
        )
        try:
            result = await self._calls.call(handler, {"ctx": ctx, "value": value})
        except (Auth.exceptions.HTTPException, HTTPException) as error:
            raise refusal(error) from None
        except TooLate:
            log.warning("a handler of 'auth' takes too long", extra=_named(handler))
            raise Refused(_LATE, 503, {"retry-after": "1"}) from None
        except AssertionError as error:
            raise Refused(str(error) or "Forbidden", 403) from None
        except ValueError as error:
            raise Refused(str(error) or "Bad Request", 400) from None
        except Exception as error:  # whatever it is: it allows nothing
            log.exception("a handler of 'auth' failed", extra=_named(handler))
            raise Refused(_BROKEN, 500) from error
        return self._scope(handler, result)

    def _scope(self, handler: Callable[..., Any], result: Any) -> Scope:
        if result is None or result is True:
            return SERVER
        if result is False:
            raise Refused("Forbidden", 403)
        if not isinstance(result, Mapping):
            raise Refused(
                "Auth handler returned invalid result. Expected filter dict, None, or boolean. Got"
                f" {type(result)} instead.",
                500,
            )
        try:
            return Scope.of_filter(cast("Mapping[str, Any]", result))
        except UnknownFilter as error:
            self._say(handler, str(error))
            raise Refused(
                "The filter that decides about this request is not understood, so it matches"
                " nothing; the server's log says why.",
                500,
            ) from None

    def _say(self, handler: Callable[..., Any], problem: str) -> None:
        sentence = f"{_named(handler)['handler']}: {problem}"
        if sentence not in self._said and len(self._said) < 100:
            self._said.add(sentence)
            log.error(
                "A handler of 'auth' returned a filter that is not understood; it matches nothing.",
                extra={**_named(handler), "reason": problem},
            )


class HandlerGate:
    """The gate of one request."""

    is_open = False

    def __init__(self, authenticator: HandlerAuthenticator, user: User) -> None:
        self._authenticator = authenticator
        self._user = user

    @property
    def identity(self) -> str:
        return self._user.identity

    @property
    def user(self) -> str | None:
        return self._user.encoded

    @property
    def seen(self) -> Any:
        return self._user.seen

    @property
    def permissions(self) -> Sequence[str]:
        return self._user.permissions

    async def allow(self, resource: str, action: str, value: Value) -> Scope:
        return await self._authenticator.allowed(self._user, resource, action, value)


class Kept:
    """Users by the values of headers, for ``auth.cache``."""

    def __init__(self, spec: CacheSpec) -> None:
        self._spec = spec
        self._users: dict[tuple[str, ...], tuple[float, User]] = {}

    def key(self, request: Any) -> tuple[str, ...] | None:
        """Returns the values of the headers; None for a request with none of them."""
        values = [request.headers.getlist(name) for name in self._spec.keys]
        return tuple("\0".join(each) for each in values) if any(values) else None

    def find(self, key: tuple[str, ...]) -> User | None:
        found = self._users.get(key)
        if found is None or time.monotonic() > found[0]:
            self._users.pop(key, None)
            return None
        return found[1]

    def keep(self, key: tuple[str, ...], user: User) -> None:
        while len(self._users) >= self._spec.most:
            del self._users[next(iter(self._users))]
        self._users[key] = (time.monotonic() + self._spec.ttl_s, user)


def wanted_of(authenticate: Callable[..., Any], spec: AuthSpec) -> tuple[str, ...]:
    """Returns the parameters of ``authenticate`` that are to be given.

    Raises:
        ConfigurationError: it needs others.
    """
    found: list[str] = []
    strange: list[str] = []
    for name, parameter in inspect.signature(authenticate).parameters.items():
        if name in PARAMETERS and parameter.kind is not parameter.POSITIONAL_ONLY:
            found.append(name)
        elif (
            parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
        ):
            strange.append(name)
    if strange:
        raise ConfigurationError(
            f"{spec.subject}: the function under '@auth.authenticate' of {spec.target} needs"
            f" {', '.join(strange)}, which a request does not have. It may declare"
            f" {', '.join(PARAMETERS)}."
        )
    return tuple(found)


async def _argument(request: Any, name: str) -> Any:
    match name:
        case "request":
            return request
        case "path":
            return request.scope["path"]
        case "method":
            return request.scope.get("method", "GET")
        case "path_params":
            return {}  # the request is authenticated before its route is known
        case "query_params":
            return request.query_params
        case "headers":
            return dict(request.scope["headers"])
        case "authorization":
            return request.headers.get("authorization")
        case "scope":
            return request.scope
        case "body":
            return await _body(request)
        case _:
            return None


async def _body(request: Any) -> Any:
    if request.scope["type"] != "http":
        return None
    try:
        return await request.json()
    except ValueError:
        return None  # the route says what is wrong with it


def refusal(error: Any) -> Refused:
    """Returns the refusal that a handler raised; a status that refuses nothing becomes 500."""
    status = int(error.status_code)
    detail: Any = error.detail
    return Refused(
        detail if isinstance(detail, str) else str(detail),
        status if 400 <= status <= 599 else 500,
        dict(error.headers or {}),
    )


def _named(handler: Callable[..., Any]) -> dict[str, str]:
    return {"handler": getattr(handler, "__qualname__", type(handler).__name__)}
