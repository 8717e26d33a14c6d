"""`Runtime` and `Records` in memory, obedient: a test says when a run emits and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import orjson

from greenroom.core.answering import Answers, PendingInterrupts
from greenroom.core.crons import Cron
from greenroom.core.errors import Conflict, InvalidRequest, NotAwaited, NotFound
from greenroom.core.events import EventLog
from greenroom.core.idempotency import OnceKey, Reservation
from greenroom.core.identity import system_assistant_id
from greenroom.core.inputs import Injection, InputStatus, NewInput, SaidInput
from greenroom.core.limits import RunsOfCaller
from greenroom.core.nodes import NodeNote
from greenroom.core.pausing import Pause, PauseRequest
from greenroom.core.ports import (
    InputQuestion,
    JsonObject,
    Question,
    StateUpdate,
    SuperstepsUpdate,
)
from greenroom.core.runs import (
    Batch,
    CancelRequest,
    CreatedRun,
    Outcome,
    Placement,
    RunRequest,
    RunStatus,
)
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.searches import (
    DeliveryFilter,
    Page,
)
from greenroom.core.thread_log import LogEvent, LogPart
from greenroom.core.timeline import StoredLife
from greenroom.wire.sse import frames
from tests.scopes import admits

NOW = "2026-11-22T06:43:18.074624+00:00"
THREAD = "01a201fe-afa1-7456-8017-e33a3d351f09"
RUN = "01a201fe-afba-70bf-b694-0563c17b2dbf"
UNKNOWN = "656ebb01-2f41-4e1c-8df6-f83b6e2bb98e"
GRAPHS = ("counter", "approval")


class MemoryRecords:
    def __init__(self) -> None:
        self.threads: dict[str, JsonObject] = {}
        self.runs: dict[str, JsonObject] = {}
        self.items: dict[tuple[tuple[str, ...], str], JsonObject] = {}
        self.assistants = {system_assistant_id(g): _assistant(g) for g in GRAPHS}
        self.revisions: dict[str, int] = {}
        self.crons: dict[str, tuple[JsonObject, int]] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.down: Exception | None = None
        self.deliveries: dict[str, JsonObject] = {}
        self.feedback: dict[str, JsonObject] = {}
        self.pushes: dict[str, dict[str, JsonObject]] = {}
        self.keys: dict[str, Reservation] = {}
        self.released: list[str] = []
        self.told_usage: list[Any] = []
        self.usage_of_others: dict[tuple[str, str, int], int] = {}
        self.callers: dict[str, str | None] = {}
        self.inputs: dict[str, dict[str, tuple[int, NewInput]]] = {}

    async def reserve(self, once: OnceKey, digest: bytes) -> Reservation:
        new = Reservation(once=once, digest=digest, made=frozenset())
        return self.keys.setdefault(once.key, new)

    async def release(self, once: OnceKey) -> bool:
        held = self.keys.get(once.key)
        if held is None or held.once != once or held.made:
            return False
        self.released.append(self.keys.pop(once.key).once.key)
        return True

    async def note_made(self, once: OnceKey, made_id: str) -> bool:
        held = self.keys.get(once.key)
        if held is None or held.once != once:
            return False
        self.keys[once.key] = replace(held, made=held.made | {made_id})
        return True

    def _delivery_within(self, scope: Scope, delivery: JsonObject) -> bool:
        thread = self.threads.get(delivery["thread_id"])
        about = {"metadata": delivery.get("metadata", {})} if thread is None else thread
        return _within(scope, about) is not None

    async def get_delivery(self, delivery_id: str, *, scope: Scope) -> JsonObject | None:
        found = self.deliveries.get(delivery_id)
        return found if found is not None and self._delivery_within(scope, found) else None

    async def list_deliveries(
        self, where: DeliveryFilter, *, limit: int, offset: int, scope: Scope
    ) -> Page:
        found = [
            each
            for each in self.deliveries.values()
            if self._delivery_within(scope, each)
            and where.status in (None, each["status"])
            and where.thread_id in (None, each["thread_id"])
        ]
        return Page(items=found[offset : offset + limit], has_more=len(found) > offset + limit)

    async def share_usage(self, gateway, own, *, oldest):
        if self.down:
            raise self.down
        self.told_usage.append(dict(own))
        return self.usage_of_others

    async def runs_of_caller(self, caller, *, without) -> RunsOfCaller:
        statuses = [
            RunStatus(run["status"])
            for run_id, run in self.runs.items()
            if self.callers.get(run_id) == caller and run_id not in without
        ]
        return RunsOfCaller(
            sum(not each.is_terminal for each in statuses), statuses.count(RunStatus.PENDING)
        )

    async def ready(self) -> None:
        if self.down:
            raise self.down

    async def get_assistant(self, assistant_id: str, *, scope: Scope) -> JsonObject | None:
        if self.down:
            raise self.down
        return _within(scope, self.assistants.get(assistant_id))

    async def assistant_of_run(self, assistant_id, *, scope, fresh=False) -> JsonObject | None:
        self.asked.append(("assistant_of_run", assistant_id, fresh))
        found = await self.get_assistant(assistant_id, scope=scope)
        return {**found, "revision": self.revisions.get(assistant_id, 1)} if found else None

    async def create_assistant(self, new, *, if_exists, scope, once=None) -> JsonObject:
        if new.assistant_id in self.assistants:
            found = await self.get_assistant(new.assistant_id, scope=scope)
            if if_exists == "raise" or found is None:
                raise Conflict(f"Assistant {new.assistant_id} already exists")
            return found
        self.assistants[new.assistant_id] = {**_assistant(new.graph_id), **asdict(new)}
        if once is not None:
            await self.note_made(once, new.assistant_id)
        return self.assistants[new.assistant_id]

    async def patch_assistant(self, assistant_id, patch, *, scope) -> JsonObject | None:
        self.asked.append(("patch_assistant", assistant_id, patch))
        return _within(scope, self.assistants.get(assistant_id))

    async def assistant_versions(self, assistant_id, *, metadata, limit, offset, scope):
        self.asked.append(("assistant_versions", metadata, limit, offset))
        known = _within(scope, self.assistants.get(assistant_id))
        return None if known is None else [known]

    async def show_version(self, assistant_id, version, *, scope) -> JsonObject | None:
        found = _within(scope, self.assistants.get(assistant_id))
        if found is not None and version != 1:
            raise NotFound(f"Version {version} not found for assistant {assistant_id}")
        return found

    async def search_assistants(self, where, *, limit, offset, sort_by, descending, scope) -> Page:
        return _page(self._assistants_of(where, scope), limit, offset)

    async def count_assistants(self, where, *, scope) -> int:
        return len(self._assistants_of(where, scope))

    def _assistants_of(self, where, scope) -> list[JsonObject]:
        return [
            each
            for each in self.assistants.values()
            if where.graph_id in (None, each["graph_id"])
            and _contains(each["metadata"], where.metadata or {})
            and admits(scope, each["metadata"])
        ]

    async def create_thread(
        self, thread_id, *, metadata, if_exists, ttl, scope, once=None
    ) -> JsonObject:
        self.asked.append(("create_thread", thread_id, ttl))
        if thread_id in self.threads:
            found = _within(scope, self.threads[thread_id])
            if if_exists == "raise" or found is None:
                raise Conflict("exists")
            return found
        self.threads[thread_id] = _thread(thread_id, metadata)
        if once is not None:
            await self.note_made(once, thread_id)
        return self.threads[thread_id]

    async def get_thread(
        self, thread_id: str, *, scope: Scope, with_state: bool = True
    ) -> JsonObject | None:
        found = _within(scope, self.threads.get(thread_id))
        if found is None or with_state:
            return found
        state = ("values", "interrupts")
        return {name: None if name in state else value for name, value in found.items()}

    async def pending_interrupts(self, thread_id, *, scope) -> PendingInterrupts | None:
        thread = _within(scope, self.threads.get(thread_id))
        if thread is None:
            return None
        of_tasks = thread.get("interrupts") or {}
        return PendingInterrupts(
            values={one["id"]: one["value"] for found in of_tasks.values() for one in found},
            mark=repr(of_tasks),
            assistant_id=thread["metadata"].get("assistant_id"),
        )

    async def patch_thread(self, thread_id, *, metadata, ttl, scope) -> JsonObject | None:
        thread = _within(scope, self.threads.get(thread_id))
        if thread is not None:
            thread["metadata"] = {**thread["metadata"], **(metadata or {})}
        return thread

    async def thread_storage(self, thread_id: str, *, scope: Scope) -> JsonObject | None:
        if _within(scope, self.threads.get(thread_id)) is None:
            return None
        nothing = {"count": 0, "bytes": 0}
        return {"thread_id": thread_id, "total_bytes": 0, "checkpoints": nothing}

    async def search_threads(self, where, *, limit, offset, sort_by, descending, scope) -> Page:
        self.asked.append(("search_threads", where, sort_by, descending))
        return _page(self._threads_of(where, scope), limit, offset)

    async def count_threads(self, where, *, scope) -> int:
        return len(self._threads_of(where, scope))

    def _threads_of(self, where, scope) -> list[JsonObject]:
        return [
            each
            for each in self.threads.values()
            if where.status in (None, each["status"]) and admits(scope, each["metadata"])
        ]

    def is_within(self, thread_id: str, scope: Scope) -> bool:
        return _within(scope, self.threads.get(thread_id)) is not None

    async def get_run(
        self, thread_id: str | None, run_id: str, *, scope: Scope
    ) -> JsonObject | None:
        run = self.runs.get(run_id)
        if run is None or not (scope.is_everything or self.is_within(run["thread_id"], scope)):
            return None
        return dict(run) if thread_id in (None, run["thread_id"]) else None

    async def list_inputs(self, thread_id, run_id, *, scope) -> list[JsonObject] | None:
        if await self.get_run(thread_id, run_id, scope=scope) is None:
            return None
        return [
            {"input_id": new.input_id, "number": number, **orjson.loads(new.content)}
            for number, new in self.inputs.get(run_id, {}).values()
        ]

    async def stored_life(self, thread_id, run_id, *, scope) -> StoredLife | None:
        run = await self.get_run(thread_id, run_id, scope=scope)
        if run is None:
            return None
        record = {name: run.get(name) for name in ("run_id", "thread_id", "assistant_id", "status")}
        return StoredLife(
            record={**record, "graph_id": "counter", "error": None},
            created_ms=1_000,
            ended_ms=9_000 if RunStatus(run["status"]).is_terminal else None,
            history=[["start", 2_000, 1, "a1", "h", 7]],
            notes={},
        )

    async def list_runs(
        self, thread_id, *, limit, offset, status, scope
    ) -> list[JsonObject] | None:
        self.asked.append(("list_runs", thread_id, limit, offset, status))
        if not self.is_within(thread_id, scope):
            return None
        runs = [r for r in self.runs.values() if r["thread_id"] == thread_id][::-1]
        runs = [r for r in runs if status in (None, r["status"])][offset:]
        return runs if limit is None else runs[:limit]

    async def add_feedback(self, run_id, feedback_id, key, content) -> JsonObject | None:
        if run_id not in self.runs:
            return None
        about = {"feedback_id": feedback_id, "run_id": run_id, "key": key, "created_at": NOW}
        empty = dict.fromkeys(("score", "value", "comment", "correction"))
        return self.feedback.setdefault(feedback_id, {**about, **empty, **content})

    async def list_feedback(self, run_id, *, limit, offset) -> list[JsonObject]:
        found = [each for each in self.feedback.values() if each["run_id"] == run_id]
        return found[offset : offset + limit]

    async def put_push(self, task_id, thread_id, config_id, content, *, tells) -> bool:
        self.asked.append(("put_push", task_id, thread_id, tells))
        self.pushes.setdefault(task_id, {})[config_id] = {**content, "id": config_id}
        return True

    async def list_pushes(self, task_id) -> list[JsonObject]:
        return [*self.pushes.get(task_id, {}).values()]

    async def delete_push(self, task_id, config_id) -> None:
        self.pushes.get(task_id, {}).pop(config_id, None)

    async def put_item(self, namespace, key, value, *, vectors, ttl_minutes) -> None:
        self.asked.append(("put_item", namespace, key, vectors, ttl_minutes))
        self.items[namespace, key] = {
            "namespace": list(namespace),
            "key": key,
            "value": orjson.Fragment(value),
            "created_at": NOW,
            "updated_at": NOW,
        }

    async def get_item(self, namespace, key, *, refresh) -> JsonObject | None:
        self.asked.append(("get_item", namespace, key, refresh))
        return self.items.get((namespace, key))

    async def delete_item(self, namespace, key) -> None:
        self.items.pop((namespace, key), None)

    async def search_items(self, query) -> list[JsonObject]:
        self.asked.append(("search_items", query))
        return [
            {**item, "score": None}
            for (namespace, _), item in self.items.items()
            if namespace[: len(query.prefix)] == query.prefix
        ]

    async def list_namespaces(self, query) -> list[list[str]]:
        self.asked.append(("list_namespaces", query))
        prefix = query.prefix if "*" not in query.prefix else ()
        return [list(found) for found, _ in self.items if found[: len(prefix)] == prefix]

    async def get_cron(self, cron_id: str, *, scope: Scope) -> tuple[JsonObject, int] | None:
        found = self.crons.get(cron_id)
        return found if found is not None and admits(scope, found[0]["metadata"]) else None

    async def search_crons(self, where, *, limit, offset, sort_by, descending, scope) -> Page:
        self.asked.append(("search_crons", where, sort_by, descending))
        found = [cron for cron, _ in self.crons.values() if admits(scope, cron["metadata"])]
        return _page(found, limit, offset)

    async def count_crons(self, where, *, scope) -> int:
        self.asked.append(("count_crons", where))
        return sum(admits(scope, cron["metadata"]) for cron, _ in self.crons.values())

    async def search_runs(self, where, *, limit, offset, descending, scope) -> Page:
        self.asked.append(("search_runs", where, descending))
        found = self._runs_of(where, scope)
        return _page(found[::-1] if descending else found, limit, offset)

    async def count_runs(self, where, *, scope) -> int:
        self.asked.append(("count_runs", where))
        return len(self._runs_of(where, scope))

    def _runs_of(self, where, scope) -> list[JsonObject]:
        return [
            run
            for run in self.runs.values()
            if where.thread_id in (None, run["thread_id"])
            and where.assistant_id in (None, run.get("assistant_id", where.assistant_id))
            and _contains(run.get("metadata", {}), where.metadata or {})
            and (scope.is_everything or self.is_within(run["thread_id"], scope))
        ]

    def add_thread(self, thread_id: str = THREAD, **metadata: Any) -> None:
        self.threads[thread_id] = _thread(thread_id, metadata)

    def add_run(
        self, run_id: str = RUN, *, status: str = "running", resumable: bool = False
    ) -> None:
        self.threads.setdefault(THREAD, _thread(THREAD, {}))
        self.runs[run_id] = {
            "run_id": run_id,
            "thread_id": THREAD,
            "status": status,
            "kwargs": orjson.Fragment(orjson.dumps({"resumable": resumable})),
        }


class MemoryRuntime:
    def __init__(self, records: MemoryRecords) -> None:
        self.records = records
        self.requests: list[RunRequest] = []
        self.created: dict[str, CreatedRun] = {}
        """What the registry remembers; without it a run that was made is not made again."""
        self.admitted = asyncio.Event()
        self.answered: dict[str, str] = {}
        """The run that answers an interrupt."""
        self.logs: dict[str, EventLog] = {}
        self.endings: dict[str, asyncio.Future[Outcome]] = {}
        self.cancels: list[tuple[CancelRequest, bool]] = []
        self.refused_input: Exception | None = None
        self.cancelled = asyncio.Event()
        self.follows: list[dict[str, Any]] = []
        self.questions: list[Any] = []
        self.answer = b'{"values":{"count":1},"next":[]}'
        self.open = 0
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        self.fail: Exception | None = None
        self.admission: Callable[[RunRequest], None] | None = None
        self.deleted_assistants: list[tuple[str, bool]] = []
        self.stopped = asyncio.Event()
        self.stopped.set()
        self.counts: JsonObject = {"runs": {"pending": 1}, "actors": 2}
        self.told = "greenroom_runs_total 1\n"
        self.thread_frames: list[bytes] = []
        self.log_parts: list[LogPart] = []
        self.log_grew = asyncio.Event()
        self.sinces: list[int] = []
        self.pruned: list[str] = []
        self.pauses: dict[str, Pause | None] = {}
        self.asked_notes: list[tuple[str, int, str]] = []
        self.embedded: list[tuple[Any, ...]] = []
        self.sent_again: list[tuple[str, str]] = []
        self.saved: list[Cron] = []
        self.before_saving: list[Callable[[Cron], None]] = []

    async def send_again(self, delivery_id: str, thread_id: str) -> None:
        if self.fail:
            raise self.fail
        self.sent_again.append((delivery_id, thread_id))

    async def say(self, new: NewInput, *, scope: Scope) -> SaidInput:
        if self.fail:
            raise self.fail
        run = self.records.runs.get(new.run_id)
        if run is None or run["thread_id"] != new.thread_id:
            raise NotFound("no such run")
        if not self.records.is_within(new.thread_id, scope):
            raise NotFound("no such run")
        inputs = self.records.inputs.setdefault(new.run_id, {})
        if new.input_id not in inputs:
            if RunStatus(run["status"]).is_terminal and new.if_over == "reject":
                raise Conflict(f"Run {new.run_id} is over (status: {run['status']}).")
            inputs[new.input_id] = (len(inputs) + 1, new)
        return SaidInput(
            input_id=new.input_id,
            run_id=new.run_id,
            number=inputs[new.input_id][0],
            status=InputStatus.WAITING,
            said_at=NOW,
        )

    async def pause(self, request: PauseRequest, *, scope: Scope) -> Pause | None:
        if self.fail:
            raise self.fail
        run = self.records.runs.get(request.run_id)
        if run is None or run["thread_id"] != request.thread_id:
            raise NotFound("Run not found")
        if not self.records.is_within(request.thread_id, scope):
            raise NotFound("Run not found")
        if RunStatus(run["status"]).is_terminal:
            raise Conflict(f"Run {request.run_id} is over (status: {run['status']}).")
        before = self.pauses.get(request.run_id)
        if before is None and request.action != "pause":
            raise Conflict("The run is not paused. Pause it first.")
        self.pauses[request.run_id] = (
            None if request.action == "resume" else Pause(name=request.name, since=NOW, next=("n",))
        )
        return self.pauses[request.run_id]

    async def create(self, request: RunRequest) -> CreatedRun:
        if self.fail:
            raise self.fail
        if request.injection is not None:
            active = next(
                (
                    run
                    for run in self.records.runs.values()
                    if run["thread_id"] == request.thread_id and run["status"] == "running"
                ),
                None,
            )
            if active is not None:
                return await self._inject(request, request.injection, active)
        if self.admission is not None:
            self.admission(request)
        if request.run_id in self.created:
            return self.created[request.run_id]
        if request.once and request.run_id in self.records.keys[request.once.key].made:
            raise NotFound("made before")
        if request.thread_id not in self.records.threads:
            if not request.create_thread:
                raise NotFound("no such thread")
            self.records.add_thread(request.thread_id, **orjson.loads(request.metadata))
        elif not self.records.is_within(request.thread_id, request.scope):
            raise NotFound("no such thread")
        if request.answers is not None:
            await self._refuse_unawaited(request.thread_id, request.answers)
            self.answered.update({each: request.run_id for each in request.answers.ids})
        self.requests.append(request)
        self.records.callers[request.run_id] = request.caller
        self.records.runs[request.run_id] = {
            "run_id": request.run_id,
            "thread_id": request.thread_id,
            "assistant_id": request.assistant_id,
            "metadata": orjson.loads(request.metadata),
            "status": "running",
            "kwargs": orjson.Fragment(request.kwargs),
            "created_at": NOW,
            "updated_at": NOW,
        }
        if request.once is not None:
            await self.records.note_made(request.once, request.run_id)
        self.begin(request.run_id)
        self.admitted.set()
        created = self.created[request.run_id] = CreatedRun(
            run_id=request.run_id,
            thread_id=request.thread_id,
            created_at=NOW,
            metadata=orjson.dumps(
                {**orjson.loads(request.defaults), **orjson.loads(request.metadata)}
            ),
            placement=Placement(run_id=request.run_id, attempt=1, actor="a1"),
        )
        return created

    async def _refuse_unawaited(self, thread_id: str, answers: Answers) -> None:
        pending = await self.records.pending_interrupts(thread_id, scope=SERVER)
        if pending is None or not (answers.ids or pending.values):
            return
        by = [
            self.records.runs[self.answered[each]] for each in answers.ids if each in self.answered
        ]
        if pending.mark != answers.mark or any(run["status"] == "running" for run in by):
            raise NotAwaited("not awaited")

    async def _inject(
        self, request: RunRequest, injection: Injection, active: JsonObject
    ) -> CreatedRun:
        if injection.refusal is not None:
            raise InvalidRequest(injection.refusal)
        new = NewInput(
            input_id=injection.input_id,
            thread_id=request.thread_id,
            run_id=active["run_id"],
            content=injection.content,
        )
        await self.say(new, scope=request.scope)
        return replace(self.created[active["run_id"]], injected=injection.input_id)

    def begin(self, run_id: str) -> None:
        self.logs[run_id] = EventLog(1, 1_000_000)
        self.endings[run_id] = asyncio.get_running_loop().create_future()
        self.emit(run_id, "metadata", {"run_id": run_id, "attempt": 1})

    def emit(self, run_id: str, name: str, data: Any) -> None:
        self.logs[run_id].append(name, orjson.dumps(data), 1795329693413)

    def finish(self, run_id: str, output: Any = None, **outcome: Any) -> None:
        status = outcome.pop("status", RunStatus.SUCCESS)
        if run_id in self.records.runs:
            self.records.runs[run_id]["status"] = str(status)
        self.endings[run_id].set_result(
            Outcome(status=status, output=orjson.dumps(output), **outcome)
        )
        self.logs[run_id].close()

    async def cancel(self, request: CancelRequest, *, wait: bool, scope: Scope) -> None:
        self.cancels.append((request, wait))
        self.cancelled.set()
        run = self.records.runs.get(request.run_id)
        if run is None or run["thread_id"] != request.thread_id:
            raise NotFound("no such run")
        if not self.records.is_within(request.thread_id, scope):
            raise NotFound("no such run")
        if RunStatus(run["status"]).is_terminal:
            raise Conflict(f"the run is {run['status']}")
        await self.stopped.wait()
        run["status"] = "interrupted"

    async def cancel_many(self, status, action, *, scope) -> int:
        return sum(
            status in ("all", run["status"]) and self.records.is_within(run["thread_id"], scope)
            for run in self.records.runs.values()
        )

    async def events(
        self, run_id, *, placement, after, modes, with_ids, resumable
    ) -> AsyncIterator[Batch]:
        self.follows.append({"after": after, "modes": modes, "with_ids": with_ids})
        self.open += 1
        self.opened.set()
        try:
            log, cursor = self.logs[run_id], after
            while True:
                if self.fail:
                    raise self.fail
                part = log.read(cursor)
                cursor = part.cursor
                body = frames(part.events, modes, with_ids)
                if body:
                    yield Batch(body=body, cursor=cursor, closed=part.closed)
                elif part.closed:
                    return
                else:
                    grown = asyncio.Event()
                    if log.wait(cursor, grown.set):
                        await grown.wait()
        finally:
            self.open -= 1
            self.closed.set()

    async def thread_events(self, thread_id, *, after, modes, scope) -> AsyncIterator[bytes]:
        self.follows.append({"thread_id": thread_id, "after": after, "modes": modes})
        self.open += 1
        self.opened.set()
        try:
            yield b""
            for body in self.thread_frames:
                if scope.is_everything or self.records.is_within(thread_id, scope):
                    yield body
            await asyncio.Event().wait()
        finally:
            self.open -= 1
            self.closed.set()

    async def thread_log(self, thread_id, *, since, scope) -> AsyncIterator[LogPart]:
        """Yields `log_parts` to those who may see them, then what is added to them."""
        self.sinces.append(since)
        self.open += 1
        self.opened.set()
        try:
            if self.fail:
                raise self.fail
            yield LogPart(dropped_to=7 if since == 1 else 0)
            seen, caught_up = 0, False
            while True:
                self.log_grew.clear()
                if scope.is_everything or self.records.is_within(thread_id, scope):
                    while seen < len(self.log_parts):
                        seen += 1
                        yield self.log_parts[seen - 1]
                if not caught_up:
                    caught_up = True
                    yield LogPart(caught_up=True)
                await self.log_grew.wait()
        finally:
            self.open -= 1
            self.closed.set()

    def log(self, *events: LogEvent) -> None:
        self.log_parts.append(LogPart(events=events))
        self.log_grew.set()

    async def outcome(self, run_id: str, placement: Placement | None, *, over=False) -> Outcome:
        self.open += 1
        self.opened.set()
        try:
            if run_id not in self.endings:
                raise NotFound("Run not found")
            return await asyncio.shield(self.endings[run_id])
        finally:
            self.open -= 1
            self.closed.set()

    async def ask(self, question: Question) -> bytes:
        self.questions.append(question)
        if self.fail:
            raise self.fail
        if isinstance(question, InputQuestion) and self.refused_input is not None:
            raise self.refused_input
        return self.answer

    async def embed_item(self, value, fields) -> list[tuple[str, list[float]]]:
        self.embedded.append((orjson.loads(value), fields))
        if self.fail:
            raise self.fail
        return [("text", [1.0, 0.0])]

    async def embed_query(self, text: str) -> list[float] | None:
        self.embedded.append((text,))
        if self.fail:
            raise self.fail
        return [0.0, 1.0]

    async def update_state(self, update: StateUpdate | SuperstepsUpdate, *, scope: Scope) -> bytes:
        if not self.records.is_within(update.thread_id, scope):
            raise NotFound("no such thread")
        self.questions.append(update)
        if self.fail:
            raise self.fail
        return b'{"checkpoint_id":"c1"}'

    async def copy_thread(self, thread_id, copy_id, *, metadata, scope) -> None:
        if not self.records.is_within(thread_id, scope):
            raise Conflict("unknown")
        self.records.add_thread(copy_id, **metadata)

    async def delete_thread(self, thread_id: str, *, scope: Scope) -> None:
        if not self.records.is_within(thread_id, scope):
            raise NotFound("no such thread")
        del self.records.threads[thread_id]

    async def delete_assistant(self, assistant_id, *, threads, scope) -> None:
        if await self.records.get_assistant(assistant_id, scope=scope) is None:
            raise NotFound(f"Assistant with ID {assistant_id} not found")
        del self.records.assistants[assistant_id]
        self.deleted_assistants.append((assistant_id, threads is not None))

    async def prune_thread(self, thread_id: str, *, scope: Scope) -> None:
        if self.fail:
            raise self.fail
        self.pruned.append(thread_id)

    async def delete_run(self, thread_id: str, run_id: str, *, scope: Scope) -> None:
        within = scope.is_everything or self.records.is_within(thread_id, scope)
        if not within or self.records.runs.pop(run_id, None) is None:
            raise NotFound("no such run")

    async def save_cron(self, cron: Cron) -> bool:
        if self.fail:
            raise self.fail
        if self.before_saving:
            self.before_saving.pop(0)(cron)
        self.saved.append(cron)
        stored, revision = self.records.crons.get(cron.cron_id, ({}, None))
        if revision != cron.revision:
            return False
        due = cron.next_run_date.isoformat() if cron.next_run_date else stored["next_run_date"]
        self.records.crons[cron.cron_id] = (
            {
                "cron_id": cron.cron_id,
                "assistant_id": cron.assistant_id,
                "thread_id": cron.thread_id,
                "user_id": cron.user_id,
                "end_time": cron.end_time.isoformat() if cron.end_time else None,
                "schedule": cron.schedule,
                "timezone": cron.timezone,
                "payload": orjson.Fragment(cron.payload),
                "next_run_date": due,
                "metadata": orjson.loads(cron.metadata),
                "on_run_completed": cron.on_run_completed,
                "enabled": cron.enabled,
                "created_at": NOW,
                "updated_at": NOW,
            },
            0 if revision is None else revision + 1,
        )
        if cron.once is not None:
            await self.records.note_made(cron.once, cron.cron_id)
        return True

    async def delete_cron(self, cron_id: str, owner: str) -> None:
        self.records.crons.pop(cron_id, None)

    async def overview(self, *, scope: Scope) -> JsonObject:
        if self.fail:
            raise self.fail
        runs = [
            {name: run.get(name) for name in ("run_id", "thread_id", "assistant_id")}
            for run in self.records.runs.values()
            if not RunStatus(run["status"]).is_terminal
            if scope.is_everything or self.records.is_within(run["thread_id"], scope)
        ]
        return {
            "at": NOW,
            "pools": [],
            "actors": [{"name": "a1", "kind": "run", "runs": runs}],
            "queue": [],
            "totals": {"running": 7, "pending": 0},
            "rates": [],
            "latency": {},
            "deaths": [],
            "problem": None,
        }

    async def stack(self, thread_id: str, run_id: str, *, scope: Scope) -> JsonObject:
        run = self.records.runs.get(run_id)
        if run is None or run["thread_id"] != thread_id:
            raise NotFound("Run not found")
        if not self.records.is_within(thread_id, scope):
            raise NotFound("Run not found")
        if RunStatus(run["status"]).is_terminal:
            raise Conflict("The run is over: no process executes it.")
        return {"attempt": 1, "actor": "a1", "by": "actor", "threads": [], "tasks": []}

    async def notes(self, run_id: str, attempt: int, actor: str) -> list[NodeNote] | None:
        self.asked_notes.append((run_id, attempt, actor))
        note = NodeNote(name="step", namespace="", step=1, task_id="t", start_ms=3_000)
        return [note]

    async def info(self) -> JsonObject:
        if self.fail:
            raise self.fail
        return self.counts

    async def metrics(self) -> str:
        if self.fail:
            raise self.fail
        return self.told


def _within(scope: Scope, record: JsonObject | None) -> JsonObject | None:
    return record if record is not None and admits(scope, record["metadata"]) else None


def _page(found: list[JsonObject], limit: int, offset: int) -> Page:
    return Page(items=found[offset : offset + limit], has_more=len(found) > offset + limit)


def _contains(metadata: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    """As ``@>`` of PostgreSQL for objects."""
    return all(
        _contains(metadata.get(key, {}), value)
        if isinstance(value, Mapping)
        else metadata.get(key) == value
        for key, value in part.items()
    )


def _assistant(graph_id: str) -> JsonObject:
    return {
        "assistant_id": system_assistant_id(graph_id),
        "graph_id": graph_id,
        "config": {},
        "context": {},
        "metadata": {"created_by": "system"},
        "name": graph_id,
        "created_at": NOW,
        "updated_at": NOW,
        "version": 1,
        "description": None,
    }


def _thread(thread_id: str, metadata: Mapping[str, Any]) -> JsonObject:
    return {
        "thread_id": thread_id,
        "created_at": NOW,
        "updated_at": NOW,
        "state_updated_at": NOW,
        "metadata": dict(metadata),
        "status": "idle",
        "config": {},
        "values": None,
    }
