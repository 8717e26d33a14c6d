"""Nobody leaves anything behind: neither work on the loop, nor entries in the registry's maps."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator

import pytest

from actors.registry.actor import RegistryActor

PATIENCE_S = 10.0


@pytest.fixture(autouse=True)
async def nothing_goes_on(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fails a test after which something still runs on its loop."""
    yield
    function = getattr(request.node, "function", None)
    if not inspect.iscoroutinefunction(inspect.unwrap(function) if function else None):
        return
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=PATIENCE_S)
    assert not left, f"still running: {[task.get_coro() for task in left]}"


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test whose registries know of no run any more and keep something about one."""
    registries: list[RegistryActor] = []
    made = RegistryActor.__init__

    def remember(self: RegistryActor, *args: object, **kwargs: object) -> None:
        made(self, *args, **kwargs)  # type: ignore[arg-type]
        registries.append(self)

    monkeypatch.setattr(RegistryActor, "__init__", remember)
    yield
    for registry in registries:
        parts = registry.readiness.now
        if parts is None or parts.context.runs:
            continue
        if getattr(registry, "killed", False):
            continue  # perhaps in the middle of something
        maps = {
            "lanes": [*parts.context.lanes],
            "queued": parts.context.runs.queued,
            "waiters": len(parts.context.waiters),
            "creating": len(parts.admissions.pending),
            "cancelling": len(parts.cancellations.pending),
            "hearing": len(parts.reports.pending),
            "saying": len(parts.inputs.pending),
            "unwritten": parts.context.journal.unwritten,
            "notes": parts.context.keeper.notes,
        }
        left = {name: found for name, found in maps.items() if found}
        assert not left, left
