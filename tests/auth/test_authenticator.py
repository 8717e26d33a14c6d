"""Handlers of ``auth``: what they are given, what they may answer, and that they block nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from langgraph_sdk import Auth
from starlette.exceptions import HTTPException
from starlette.requests import Request

from greenroom.auth.authenticator import PARAMETERS, HandlerAuthenticator
from greenroom.auth.calls import Apart, Inline
from greenroom.core.access import AuthSpec, CacheSpec
from greenroom.core.errors import ConfigurationError, Refused
from greenroom.core.scopes import SERVER, Scope

SPEC = AuthSpec(target="a.py:auth")


def request_of(*, body: bytes = b"", query: bytes = b"", **headers: str) -> Request:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    encoded = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/threads",
        "query_string": query,
        "headers": encoded,
    }
    return Request(scope, receive)


def authenticator_of(
    authenticate: Callable[..., Any], *, calls: Any = None, cache: CacheSpec | None = None
) -> HandlerAuthenticator:
    auth = Auth()
    auth.authenticate(authenticate)
    spec = AuthSpec(target="a.py:auth", cache=cache)
    return HandlerAuthenticator(auth, spec, calls or Inline())


# --- authenticate --------------------------------------------------------------------------------


async def test_it_is_given_what_it_declares() -> None:
    seen: dict[str, Any] = {}

    async def authenticate(
        request, body, path, method, path_params, query_params, headers, authorization, scope, x=1
    ) -> str:
        seen.update(locals())
        return "ada"

    asked = request_of(
        body=b'{"a": 1}', query=b"q=1&q=2", authorization="Bearer t", content_type="x"
    )
    gate = await authenticator_of(authenticate).enter(asked)
    assert gate.identity == "ada"
    assert seen["request"] is asked
    assert (seen["path"], seen["method"], seen["path_params"]) == ("/threads", "POST", {})
    assert seen["query_params"].getlist("q") == ["1", "2"]
    assert seen["headers"][b"authorization"] == b"Bearer t"
    assert (seen["authorization"], seen["body"], seen["x"]) == ("Bearer t", {"a": 1}, 1)
    assert seen["scope"]["type"] == "http"


@pytest.mark.parametrize("body", [b"", b"{"])
async def test_a_body_that_is_no_json_is_none(body: bytes) -> None:
    gate = await authenticator_of(lambda body: f"user {body}").enter(request_of(body=body))
    assert gate.identity == "user None"


def test_what_it_cannot_be_given_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"a\.py:auth needs banana"):
        authenticator_of(lambda banana: "ada")
    with pytest.raises(ConfigurationError, match=r"'@auth\.authenticate'"):
        HandlerAuthenticator(Auth(), SPEC, Inline())
    assert "scope" in PARAMETERS


async def test_each_form_of_a_user() -> None:
    class Person:
        identity = "ada"
        permissions = ("p",)

        def __init__(self) -> None:
            self.team = "x"

        def says(self) -> str:
            return "hi"

    forms: list[Any] = [
        "ada",
        {"identity": "ada", "team": "x"},
        Person(),
        (["p"], {"identity": "ada"}),
        {"identity": "ada", "is_authenticated": False},
    ]
    for form in forms:
        gate = await authenticator_of(lambda form=form: form).enter(request_of())
        assert gate.identity == "ada"
        assert gate.user is not None
        assert '"display_name":"ada"' in gate.user
    seen: list[Any] = []
    auth = Auth()
    auth.authenticate(lambda: Person())

    @auth.on
    async def on(ctx: Any, value: Any) -> None:
        seen.append(ctx)

    gate = await HandlerAuthenticator(auth, SPEC, Inline()).enter(request_of())
    await gate.allow("threads", "read", {})
    (ctx,) = seen
    assert (ctx.user.identity, ctx.user["team"], ctx.user.says()) == ("ada", "x", "hi")
    assert (ctx.permissions, ctx.resource, ctx.action) == (["p"], "threads", "read")
    assert "team" in ctx.user
    assert "identity" in list(ctx.user)


@pytest.mark.parametrize("form", [None, 1, {}, {"identity": ""}, {"name": "ada"}])
async def test_no_user_is_400(form: Any) -> None:
    with pytest.raises(Refused, match="Expected a BaseUser instance") as refused:
        await authenticator_of(lambda: form).enter(request_of())
    assert refused.value.status_hint == 400


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Auth.exceptions.HTTPException(), 401, "Unauthorized"),
        (Auth.exceptions.HTTPException(status_code=403, detail="no"), 403, "no"),
        (Auth.exceptions.HTTPException(status_code=429, detail="slow"), 429, "slow"),
        (Auth.exceptions.HTTPException(status_code=200, detail="odd"), 500, "odd"),
        (HTTPException(402, "pay", {"x-pay": "1"}), 402, "pay"),
        (AssertionError("nobody"), 403, "nobody"),
        (ValueError("token t0ps3cret is bad"), 400, "The credentials are malformed."),
        (KeyError("t0ps3cret"), 500, "failed; the server's log says why"),
    ],
)
async def test_what_it_raises_is_a_refusal(error: Exception, status: int, said: str) -> None:
    def authenticate() -> None:
        raise error

    with pytest.raises(Refused) as refused:
        await authenticator_of(authenticate).enter(request_of())
    assert refused.value.status_hint == status
    assert said in refused.value.message
    assert "t0ps3cret" not in refused.value.message


async def test_headers_of_a_refusal_are_sent() -> None:
    def authenticate() -> None:
        raise Auth.exceptions.HTTPException(headers={"WWW-Authenticate": "Bearer"})

    with pytest.raises(Refused) as refused:
        await authenticator_of(authenticate).enter(request_of())
    assert refused.value.headers() == {"WWW-Authenticate": "Bearer"}


# --- @auth.on ------------------------------------------------------------------------------------


async def allowed(handlers: Callable[[Auth], None], resource: str, action: str) -> Scope:
    auth = Auth()
    auth.authenticate(lambda: "ada")
    handlers(auth)
    gate = await HandlerAuthenticator(auth, SPEC, Inline()).enter(request_of())
    return await gate.allow(resource, action, {})


async def test_the_most_specific_handler_decides_alone() -> None:
    def handlers(auth: Auth) -> None:
        for name, decorator in {
            "threads.read": auth.on.threads.read,
            "threads": auth.on.threads,
            "read": auth.on(actions="read"),
            "all": auth.on,
        }.items():

            async def decide(ctx: Any, value: Any, name: str = name) -> Any:
                return {"by": name}

            decorator(decide)  # type: ignore[operator]

    async def by(resource: str, action: str) -> Any:
        return (await allowed(handlers, resource, action)).term

    assert await by("threads", "read") == Scope.of_filter({"by": "threads.read"}).term
    assert await by("threads", "delete") == Scope.of_filter({"by": "threads"}).term
    assert await by("crons", "read") == Scope.of_filter({"by": "read"}).term
    assert await by("store", "put") == Scope.of_filter({"by": "all"}).term


def returning(result: Any) -> Callable[[Auth], None]:
    def handlers(auth: Auth) -> None:
        @auth.on
        async def decide(ctx: Any, value: Any) -> Any:
            if isinstance(result, Exception):
                raise result
            return result

    return handlers


async def test_what_allows() -> None:
    for result in (None, True, {}):
        assert await allowed(returning(result), "threads", "read") == SERVER
    assert await allowed(lambda auth: None, "threads", "read") == SERVER
    mine = await allowed(returning({"owner": "ada"}), "threads", "read")
    assert mine == Scope.of_filter({"owner": "ada"})


@pytest.mark.parametrize(
    ("result", "status", "said"),
    [
        (False, 403, "Forbidden"),
        (0, 500, "Auth handler returned invalid result"),
        ("x", 500, "Got <class 'str'> instead"),
        ({"owner": {"$in": ["a"]}}, 500, "matches nothing"),
        ({"n": {"k": "s3cret"}}, 500, "matches nothing"),
        (Auth.exceptions.HTTPException(status_code=418, detail="tea"), 418, "tea"),
        (ValueError("odd"), 400, "odd"),
        (AssertionError("not yours"), 403, "not yours"),
        (RuntimeError("s3cret"), 500, "the server's log says why"),
    ],
)
async def test_what_refuses(result: Any, status: int, said: str) -> None:
    with pytest.raises(Refused) as refused:
        await allowed(returning(result), "threads", "read")
    assert refused.value.status_hint == status
    assert said in refused.value.message
    assert "s3cret" not in refused.value.message


async def test_a_filter_that_is_not_understood_is_logged_once(caplog) -> None:
    auth = Auth()
    auth.authenticate(lambda: "ada")
    returning({"owner": {"$ne": "a"}})(auth)
    gate = await HandlerAuthenticator(auth, SPEC, Inline()).enter(request_of())
    for _ in range(3):
        with pytest.raises(Refused):
            await gate.allow("threads", "search", {})
    assert len([each for each in caplog.records if "not understood" in each.message]) == 1


# --- deadlines -----------------------------------------------------------------------------------


async def test_a_handler_that_blocks_blocks_nobody_and_is_given_up() -> None:
    free, threads = threading.Event(), set[int]()

    async def authenticate(authorization: str) -> str:
        threads.add(threading.get_ident())
        if authorization == "slow":
            free.wait(20)  # it blocks its event loop, as a client without asyncio does
        return "ada"

    authenticator = authenticator_of(authenticate, calls=Apart(0.3))
    ticks, began = 0, time.monotonic()
    slow = asyncio.create_task(authenticator.enter(request_of(authorization="slow")))
    while not slow.done():
        await asyncio.sleep(0.01)
        ticks += 1
        assert time.monotonic() - began < 10
    assert ticks > 10
    with pytest.raises(Refused, match="takes too long") as refused:
        await slow
    assert refused.value.status_hint == 503
    assert (await authenticator.enter(request_of(authorization="quick"))).identity == "ada"
    assert threading.get_ident() not in threads
    assert len(threads) == 2
    free.set()


async def test_a_function_runs_in_a_thread() -> None:
    free, threads = threading.Event(), list[int]()

    def authenticate(authorization: str) -> str:
        threads.append(threading.get_ident())
        if authorization == "slow":
            free.wait(20)
        return authorization

    authenticator = authenticator_of(authenticate, calls=Apart(5))
    slow = asyncio.create_task(authenticator.enter(request_of(authorization="slow")))
    quick = await authenticator.enter(request_of(authorization="quick"))
    assert quick.identity == "quick"
    assert not slow.done()
    free.set()
    assert (await slow).identity == "slow"
    assert threading.get_ident() not in threads


async def test_a_timeout_of_the_handler_itself_is_its_own_failure() -> None:
    async def authenticate() -> None:
        raise TimeoutError

    with pytest.raises(Refused) as refused:
        await authenticator_of(authenticate, calls=Apart(5)).enter(request_of())
    assert refused.value.status_hint == 500


# --- cache ---------------------------------------------------------------------------------------


async def test_users_are_kept_by_the_headers_that_were_named() -> None:
    calls: list[str] = []

    def authenticate(headers: dict[bytes, bytes]) -> str:
        calls.append(headers.get(b"x-key", b"").decode())
        return calls[-1] or "nobody"

    cache = CacheSpec(keys=("x-key",), ttl_s=60, most=2)
    authenticator = authenticator_of(authenticate, cache=cache)
    for key in ("a", "a", "b", "a"):
        assert (await authenticator.enter(request_of(x_key=key, other="x"))).identity == key
    assert calls == ["a", "b"]
    for _ in range(2):
        await authenticator.enter(request_of())
    assert calls == ["a", "b", "", ""]  # a request without the headers is always asked about
    for key in ("c", "a"):
        await authenticator.enter(request_of(x_key=key))
    assert calls[-2:] == ["c", "a"]


async def test_a_kept_user_is_forgotten() -> None:
    calls: list[int] = []
    authenticator = authenticator_of(
        lambda authorization: calls.append(1) or "ada", cache=CacheSpec(ttl_s=0.000001)
    )
    for _ in range(2):
        await authenticator.enter(request_of(authorization="x"))
        await asyncio.sleep(0)
        time.sleep(0.001)  # noqa: ASYNC251 - past its time
    assert len(calls) == 2
