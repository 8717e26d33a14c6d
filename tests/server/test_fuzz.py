"""Whatever a client sends: no 5xx, and no status that the API's description does not know.

To make an example takes longer than to send it, so each is sent to both mounts.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom.http.app import PARTS, create_app
from greenroom.http.settings import HttpSettings
from tests.http.edge_doubles import MemoryRecords, MemoryRuntime
from tests.serving import Served

EXAMPLES = 7
ENDLESS = "/threads/{thread_id}/stream"
"""Never ends by itself, so who waits for its answer waits for ever."""
ANSWER_WAIT_S = 30.0

MOUNTS = ("", "/api")
OPERATIONS = [
    (method.lower(), route.path_format)
    for _, part in PARTS
    for route in part.router.routes
    if isinstance(route, APIRoute) and route.include_in_schema
    for method in sorted(route.methods)
    if not route.path_format.endswith(ENDLESS)
]
"""Without the mount."""


@functools.cache
def description() -> dict[str, Any]:
    """The document of the API. Not at the top: it takes as long to make as the slow imports."""
    records = MemoryRecords()
    app = create_app(
        runtime=MemoryRuntime(records),
        records=records,
        graphs=["counter"],
        settings=HttpSettings(openai=True),
    )
    return app.openapi()


@pytest.fixture(scope="module")
def schema() -> Any:
    # Not at the top: it takes seconds to import, in each process that collects the tests.
    import schemathesis

    return schemathesis.openapi.from_dict(description())


def of_mount(mount: str) -> dict[tuple[str, str], Any]:
    """What an operation takes and which statuses it answers, by its method and its path."""
    return {
        (method, path.removeprefix(mount)): (
            operation.get("parameters"),
            operation.get("requestBody"),
            set(operation["responses"]),
        )
        for path, methods in description()["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/api/") is bool(mount)
    }


def test_both_mounts_have_the_same_operations() -> None:
    first, second = map(of_mount, MOUNTS)
    assert len(first) > 90
    assert first == second
    assert {each for each in first if not each[1].endswith(ENDLESS)} == {*OPERATIONS}


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_meets_a_5xx_or_an_undocumented_status(
    server: Served, schema: Any, method: str, path: str
) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import status_code_conformance

    operation = schema[path][method]

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), mounts=st.permutations(MOUNTS))
    def send(case: Any, mounts: list[str]) -> None:
        for mount in mounts:
            case.call_and_validate(
                base_url=server.url + mount,
                checks=[not_a_server_error, status_code_conformance],
                timeout=ANSWER_WAIT_S,
            )

    send()
