"""Hundreds of runs with viewers that come and go, while processes are killed at random.

Half of the runs are on threads, and their viewers break off and come back. The other half are
stateless: there is nothing to come back to, so an answer that comes must be the right one. Every
fifth of those on threads is a task of the A2A protocol, whose client asks for it until it is
completed. To every third of those on threads somebody speaks while they are executed. Meanwhile
crons fire every second.

    python -m tests.reliability.chaos --runs 300 --seed 7 --seed 8  (`make chaos`)
    python -m tests.reliability.chaos --minutes 10 --memory        (`make soak`)

With ``--memory`` nothing is killed in the second half, so that every process has the time to grow.
Afterwards it proves, from side effects and from what the viewers saw, that nothing was lost,
repeated, stuck or wrongly answered, and writes its table into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from greenroom.persistence.embedded import start_embedded
from tests.reliability.witness import (
    Effects,
    Seen,
    frames,
    kill_gateways,
    process_titled,
    proxies,
    titled,
)
from tests.serving import Served, serving
from tests.waiting import until

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "reliability.md"
AT_ONCE = 5
STUCK_S = 120.0
LOCK_S = 1.0
"""How long somebody has a lock on the registry's tables."""
KINDS = {
    "run actor": 14,
    "registry": 4,
    "gateway": 2,
    "inspector": 2,
    "lock": 1,
    "HAProxy": 1,
}
"""What happens, and how often."""
CRONS = 2
SPEAK_EVERY = 3
"""How many of the runs on threads have one among them to which somebody speaks."""
TASK_EVERY = 5
"""How many of the runs on threads have one A2A task among them."""
MOST_KILLS_OF_A_RUN = 2
"""One less than max_attempts: who is killed more often ends in error, as promised."""


@dataclass
class Life:
    """One run, as it was asked for and as it was seen."""

    number: int
    steps: int
    stateless: bool = False
    is_task: bool = False
    thread_id: str = ""
    run_id: str = ""
    said: list[str] = field(default_factory=list)
    viewers: list[Seen] = field(default_factory=list)
    killed_s: list[float] = field(default_factory=list)
    recovered_s: list[float] = field(default_factory=list)
    status: str = ""


def _most_kills(life: Life) -> int:
    # A stateless run is known a moment after it began: by then it may have died with a neighbour.
    return MOST_KILLS_OF_A_RUN - life.stateless


@dataclass
class Result:
    runs: int = 0
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    tasks: int = 0
    said: int = 0
    followers: int = 0
    misheard: list[str] = field(default_factory=list)
    firings: int = 0
    missed: int = 0
    memory_mib: dict[str, list[float]] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        return [
            *self.lost,
            *self.repeated,
            *self.stuck,
            *self.left,
            *self.wrong,
            *self.misheard,
        ]

    def recovery(self, share: float) -> float:
        ordered = sorted(self.recoveries_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0

    def table(self, seed: int) -> str:
        p50 = statistics.median(self.recoveries_s) if self.recoveries_s else 0.0
        longest = max(self.recoveries_s, default=0.0)
        killed = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        return "\n".join(
            [
                "| | |",
                "|---|---|",
                f"| runs, half of them stateless | {self.runs} in {self.seconds:.0f} s,"
                f" seed {seed} |",
                f"| kills, and locks of {LOCK_S:g} s | {killed or 'none'} |",
                f"| A2A tasks among the runs | {self.tasks} |",
                f"| dates of crons, each fired once or told by a later run |"
                f" {self.firings + self.missed}, of which {self.missed} were missed |",
                f"| said to runs that are executed | {self.said}, of which {self.followers} started"
                f" a next run |",
                f"| said and lost, taken twice or out of order | {len(self.misheard)} |",
                f"| connections broken by viewers | {self.broken} |",
                f"| recovery of a killed run, p50 / p95 / max | {p50:.2f} / "
                f"{self.recovery(0.95):.2f} / {longest:.2f} s |",
                f"| lost | {len(self.lost)} |",
                f"| repeated | {len(self.repeated)} |",
                f"| stuck | {len(self.stuck)} |",
                f"| left over | {len(self.left)} |",
                f"| wrongly answered | {len(self.wrong)} |",
            ]
        )


class Chaos:
    """Drives one server.

    Args:
        kill: how often a second something is killed, on average.
        calm_after_s: from then on nothing is.
        kinds: what happens, and how often.
        stateless: half of the runs are.
    """

    def __init__(
        self,
        server: Served,
        effects: Effects,
        seed: int,
        *,
        kill: float,
        calm_after_s: float = math.inf,
        registries: int = 1,
        kinds: Mapping[str, int] = KINDS,
        stateless: bool = True,
    ) -> None:
        self._kinds = kinds
        self._stateless = stateless
        self._server = server
        self._effects = effects
        self._random = random.Random(seed)
        self._kill = kill
        self._calm_after_s = calm_after_s
        self._lives: list[Life] = []
        self._current: dict[str, Life] = {}
        self.refused: list[str] = []
        self.registries = registries
        self.result = Result()

    async def run(
        self,
        *,
        runs: int | None,
        seconds: float | None,
        until: Callable[[], bool] = lambda: False,
    ) -> Result:
        """Begins runs until there were so many, the time is up or it is time to end."""
        begun_s = time.monotonic()
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=self._server.url, timeout=STUCK_S, limits=limits
        ) as http:
            planned = [await self._plan(http) for _ in range(CRONS)]
            killer = asyncio.create_task(self._kill_at_random(http))

            async def work() -> None:
                while True:
                    number = len(self._lives)
                    over = seconds is not None and time.monotonic() - begun_s > seconds
                    if over or (runs is not None and number >= runs) or until():
                        return
                    steps = self._random.randint(4, 14)
                    stateless = self._stateless and number % 2 == 1
                    is_task = not stateless and number % TASK_EVERY == 0
                    life = Life(number, steps=steps, stateless=stateless, is_task=is_task)
                    self._lives.append(life)
                    lives = self._live_as_task if is_task else self._live
                    await (self._live_once if life.stateless else lives)(http, life)

            await asyncio.gather(*(work() for _ in range(AT_ONCE)))
            killer.cancel()
            await asyncio.gather(killer, return_exceptions=True)
            self.result.seconds = time.monotonic() - begun_s
            self.result.runs = len(self._lives)
            for cron in planned:
                await self._prove_dates(http, cron)
            await self._prove(http)
        return self.result

    async def _live(self, http: httpx.AsyncClient, life: Life) -> None:
        try:
            async with asyncio.timeout(STUCK_S):
                graph = self._random.choice(["steps", "steps", "crowd"])
                state = self._effects.input(n=life.steps, delay=self._random.uniform(0.03, 0.15))
                body = {"assistant_id": graph, "input": state, "durability": "sync"}
                body |= {"stream_mode": ["updates", "values"], "stream_resumable": True}
                life.thread_id = (await self._ask(http, "POST", "/threads", {}))["thread_id"]
                path = f"/threads/{life.thread_id}/runs"
                life.run_id = await self._create(http, path, body)
                self._current[life.run_id] = life
                life.viewers = [Seen() for _ in range(self._random.randint(1, 3))]
                speaks = life.number // 2 % SPEAK_EVERY == 1
                await asyncio.gather(
                    *(self._view(http, life, seen) for seen in life.viewers),
                    *([self._speak(http, life)] if speaks else []),
                )
                found = await self._ask(http, "GET", f"{path}/{life.run_id}")
                life.status = found["status"]
                followers = await self._followers(http, life) if life.said else 0
                state = await self._ask(http, "GET", f"/threads/{life.thread_id}/state")
                if state["values"].get("i") != life.steps + followers:
                    self.result.wrong.append(f"state of run {life.number}: {state['values']}")
                if life.said:
                    await self._prove_said(http, life, state["values"]["log"])
        except TimeoutError:
            self.result.stuck.append(f"run {life.number} ({life.run_id}) after {STUCK_S:g} s")
        finally:
            self._current.pop(life.run_id, None)

    async def _speak(self, http: httpx.AsyncClient, life: Life) -> None:
        """Says a few words, one after the other, until the run is over."""
        path = f"/threads/{life.thread_id}/runs/{life.run_id}/input"
        for number in range(self._random.randint(2, 6)):
            await asyncio.sleep(self._random.uniform(0.0, 0.4))
            word = f"said-{number}"
            headers = {"idempotency-key": f"{life.run_id}-{number}"}
            while True:
                with contextlib.suppress(httpx.TransportError):
                    body = {"input": {"log": [word]}}
                    answer = await http.post(path, json=body, headers=headers)
                    if answer.status_code == 202:
                        life.said.append(word)
                        self.result.said += 1
                        break
                    if answer.status_code == 409:
                        return  # it is over
                    self.refused.append(f"POST {path}: {answer.status_code} {answer.text}")
                await asyncio.sleep(0.1)

    async def _followers(self, http: httpx.AsyncClient, life: Life) -> int:
        """Waits for the runs that follow with what the run has not taken; returns their number."""
        thread = f"/threads/{life.thread_id}"

        async def rests() -> bool:
            return (await self._ask(http, "GET", thread))["status"] == "idle"

        await until(rests, within_s=STUCK_S)
        return len(await self._ask(http, "GET", f"{thread}/runs")) - 1

    async def _prove_said(self, http: httpx.AsyncClient, life: Life, log: list[str]) -> None:
        """All of it is in the state, once and in order, and each viewer was told what was taken."""
        name = f"run {life.number} ({life.run_id})"
        heard = [word for word in log if word.startswith("said-")]
        if heard != life.said:
            self.result.misheard.append(f"{name}: said {life.said}, in the state {heard}")
        path = f"/threads/{life.thread_id}/runs/{life.run_id}/input"
        listed = await self._ask(http, "GET", path)
        self.result.followers += sum(each["status"] == "started" for each in listed)
        # That each that was acknowledged is in the state is proven above; none may wait for ever.
        found = {each["input_id"]: each["taken"] for each in listed if each["taken"]}
        waiting = [each for each in listed if not each["taken"] and each["status"] == "waiting"]
        if waiting:
            self.result.misheard.append(f"{name}: nobody took {waiting}")
        taken = [input_id for input_id, by in found.items() if by["run_id"] == life.run_id]
        for seen in life.viewers:
            # A viewer may be told again what was not durable when the process died.
            told = list(dict.fromkeys(data["input_id"] for data in seen.of("input")))
            if told != taken:
                self.result.misheard.append(f"a viewer of {name}: told {told}, taken {taken}")

    async def _live_as_task(self, http: httpx.AsyncClient, life: Life) -> None:
        """A task of A2A: sent without waiting, and asked for until it is completed."""
        self.result.tasks += 1
        path = f"/a2a/{self._random.choice(['steps', 'crowd'])}"
        state = self._effects.input(n=life.steps, delay=self._random.uniform(0.03, 0.15))
        message = {
            "role": "user",
            "messageId": str(uuid.uuid4()),
            "parts": [{"kind": "data", "data": state}],
        }
        try:
            async with asyncio.timeout(STUCK_S):
                life.thread_id = (await self._ask(http, "POST", "/threads", {}))["thread_id"]
                message["contextId"] = life.thread_id
                params = {"message": message, "configuration": {"blocking": False}}
                call = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": params}
                # A client that does not know whether its message arrived looks before it sends
                # it again.
                known: list[Any] = []
                while not known:
                    with contextlib.suppress(httpx.TransportError):
                        await http.post(path, json=call)
                    known = await self._ask(http, "GET", f"/threads/{life.thread_id}/runs")
                life.run_id = known[0]["run_id"]
                self._current[life.run_id] = life
                get = {**call, "method": "tasks/get", "params": {"id": life.run_id}}
                while not life.status:
                    task = (await self._ask(http, "POST", path, get))["result"]
                    said = task["status"]["state"]
                    if said == "completed":
                        life.status = "success"
                        (part,) = task["artifacts"][0]["parts"]
                        if part["data"].get("i") != life.steps:
                            self.result.wrong.append(f"task {life.number}: {part['data']}")
                    elif said not in ("submitted", "working"):
                        life.status = said
                    await asyncio.sleep(0.1)
        except TimeoutError:
            self.result.stuck.append(f"task {life.number} ({life.run_id}) after {STUCK_S:g} s")
        finally:
            self._current.pop(life.run_id, None)

    async def _plan(self, http: httpx.AsyncClient) -> dict[str, Any]:
        """A cron that fires each second, on a thread of its own."""
        thread_id = (await self._ask(http, "POST", "/threads", {}))["thread_id"]
        body = {"assistant_id": "crowd", "schedule": "* * * * * *"}
        body["input"] = self._effects.input(n=1)
        return await self._ask(http, "POST", f"/threads/{thread_id}/runs/crons", body)

    async def _live_once(self, http: httpx.AsyncClient, life: Life) -> None:
        """A stateless run, and again as a new one if its connection breaks."""
        how = self._random.choice(["wait", "stream"])
        try:
            async with asyncio.timeout(STUCK_S):
                while not life.status:
                    graph = self._random.choice(["steps", "steps", "crowd"])
                    state = self._effects.input(n=life.steps, delay=self._random.uniform(0.03, 0.1))
                    body = {"assistant_id": graph, "input": state, "durability": "sync"}
                    with contextlib.suppress(httpx.TransportError):
                        await self._answered_once(http, life, how, body)
                        continue
                    self.result.broken += 1
                    await asyncio.sleep(0.1)
        except TimeoutError:
            self.result.stuck.append(f"stateless {how} {life.number} after {STUCK_S:g} s")
        finally:
            self._current.pop(life.run_id, None)

    async def _answered_once(
        self, http: httpx.AsyncClient, life: Life, how: str, body: dict[str, Any]
    ) -> None:
        stream = http.stream("POST", f"/runs/{how}", json={**body, "stream_mode": ["values"]})
        async with stream as answer:
            if answer.status_code >= 500:
                text = (await answer.aread()).decode()
                self.refused.append(f"POST /runs/{how}: {answer.status_code} {text}")
                await asyncio.sleep(0.1)
                return
            self._current.pop(life.run_id, None)
            life.run_id = answer.headers.get("content-location", "").rpartition("/")[2]
            life.killed_s, life.recovered_s = [], []
            self._current[life.run_id] = life
            if how == "wait":
                said = json.loads(await answer.aread() or b"null")
            else:
                said = None
                async for _, name, data in frames(answer):
                    self._recovered(life, name, data)
                    said = data if name in ("values", "error") else said
        if not answer.is_success or not isinstance(said, dict) or said.get("i") != life.steps:
            self.result.wrong.append(f"stateless {how} {life.number}: {answer.status_code} {said}")
            life.status = "wrong"
        else:
            life.status = "success"

    async def _create(self, http: httpx.AsyncClient, path: str, body: Any) -> str:
        """A client that does not know whether its request arrived looks before it asks again."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await http.post(path, json=body)
                if answer.is_success:
                    return answer.json()["run_id"]
                self.refused.append(f"POST {path}: {answer.status_code} {answer.text}")
            await asyncio.sleep(0.2)
            known = await self._ask(http, "GET", path)
            if known:
                return known[0]["run_id"]

    async def _ask(self, http: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
        """The answer, once there is one. Raises TimeoutError."""
        async with asyncio.timeout(STUCK_S):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = await http.request(method, path, json=body)
                    if answer.is_success:
                        return answer.json()
                    self.refused.append(f"{method} {path}: {answer.status_code} {answer.text}")
                    if answer.status_code < 500:
                        raise AssertionError(f"{method} {path}: {answer.text}")
                await asyncio.sleep(0.1)

    async def _view(self, http: httpx.AsyncClient, life: Life, seen: Seen) -> None:
        """Reads the run's stream to its end, over as many connections as that takes."""
        path = f"/threads/{life.thread_id}/runs/{life.run_id}/stream"
        last = "-1"
        while True:
            patience = self._random.choice([2, 5, 10, 1000, 1000])
            with contextlib.suppress(httpx.TransportError):
                async with http.stream("GET", path, headers={"last-event-id": last}) as answer:
                    if not answer.is_success:
                        await asyncio.sleep(0.1)
                        continue
                    async for event_id, name, data in frames(answer):
                        self._recovered(life, name, data)
                        seen.add(event_id, name, data)
                        last = event_id or last
                        patience -= 1
                        if not patience:
                            break
                    else:
                        return
                self.result.broken += 1
            await asyncio.sleep(0.02)

    def _recovered(self, life: Life, name: str, data: Any) -> None:
        """The first event of a next attempt, for whichever viewer is first."""
        if name == "metadata" and len(life.recovered_s) < data["attempt"] - 1 <= len(life.killed_s):
            killed_s = life.killed_s[data["attempt"] - 2]
            life.recovered_s.append(time.monotonic() - killed_s)
            self.result.recoveries_s.append(life.recovered_s[-1])

    # --- killing -------------------------------------------------------------------------------

    async def _kill_at_random(self, http: httpx.AsyncClient) -> None:
        calm_s = time.monotonic() + self._calm_after_s
        while True:
            await asyncio.sleep(self._random.expovariate(self._kill))
            if time.monotonic() > calm_s:
                return
            kind = self._random.choices([*self._kinds], [*self._kinds.values()])[0]
            # Whoever is to be killed may be away at the moment, and so may who is asked.
            away = (psutil.NoSuchProcess, StopIteration, ValueError, httpx.HTTPError)
            with contextlib.suppress(*away):
                match kind:
                    case "run actor":
                        killed = await self._kill_run_actor(http)
                    case "registry":
                        killed = process_titled(self._server, "RegistryActor").kill() is None
                    case "gateway":
                        kill_gateways(self._server)
                        killed = True
                    case "inspector":
                        killed = self._one_of(titled(self._server, "Inspector")).kill() is None
                    case "lock":
                        killed = await self._lock()
                    case _:
                        killed = self._one_of(proxies(self._server)).kill() is None
                self.result.kills[kind] += killed

    def _one_of(self, processes: list[psutil.Process]) -> psutil.Process:
        if not processes:
            raise StopIteration  # this server has none, or it is being started
        return self._random.choice(processes)

    async def _lock(self) -> bool:
        """Somebody has the tables for themselves, as ``VACUUM FULL`` has."""
        embedded = await asyncio.to_thread(start_embedded, self._server.data_dir / "pg")
        try:
            async with await psycopg.AsyncConnection.connect(embedded.dsn) as somebody:
                await somebody.execute("SET lock_timeout = '2s'")
                with contextlib.suppress(psycopg.errors.LockNotAvailable):
                    await somebody.execute("LOCK TABLE greenroom.runs, greenroom.threads")
                    await asyncio.sleep(LOCK_S)
                    return True
        finally:
            embedded.release()
        return False

    async def _kill_run_actor(self, http: httpx.AsyncClient) -> bool:
        answer = await http.get("/info", timeout=5.0)
        for member in self._random.sample(pool := answer.json()["counts"]["pool"], len(pool)):
            lives = [self._current[run] for run in member["runs"] if run in self._current]
            if len(lives) < len(member["runs"]):
                continue  # a death of one that is not known yet would not be counted
            tired = any(len(life.killed_s) >= _most_kills(life) for life in lives)
            if lives and not tired and member["pid"]:
                psutil.Process(member["pid"]).kill()
                for life in lives:
                    life.killed_s.append(time.monotonic())
                return True
        return False

    # --- proving -------------------------------------------------------------------------------

    async def _prove(self, http: httpx.AsyncClient) -> None:
        effects: dict[str, list[int]] = {}
        for line in self._effects.path.read_text().splitlines():
            run_id, name, _ = line.split(" ")
            effects.setdefault(run_id, []).append(int(name.removeprefix("step-")))
        for life in self._lives:
            if life.status:
                done = effects.get(life.run_id, [])
                self._prove_effects(life, done)
                if life.stateless:
                    continue
                if not life.is_task:
                    self._prove_streams(life, done)
                thread = await self._ask(http, "GET", f"/threads/{life.thread_id}")
                if thread["status"] != "idle":
                    self.result.left.append(f"thread of run {life.number}: {thread['status']}")
        await self._prove_nothing_is_left(http)

    def _prove_effects(self, life: Life, done: list[int]) -> None:
        name = f"run {life.number} ({life.run_id})"
        if life.status != "success" or set(done) != set(range(1, life.steps + 1)):
            self.result.lost.append(f"{name} {life.status}: steps {done}")
        if life.is_task:
            return  # its checkpoints are not awaited, so more than one step may be repeated
        # A step that begins has the checkpoint of the one before it: nobody may go back.
        if done != sorted(done) or len(done) - life.steps > len(life.killed_s):
            self.result.repeated.append(f"{name}, {len(life.killed_s)} kills: steps {done}")

    def _prove_streams(self, life: Life, done: list[int]) -> None:
        # What was executed again had no checkpoint: that may be told again as well.
        executed = Counter(done)
        wanted = list(range(1, life.steps + 1))
        for seen in life.viewers:
            name = f"a viewer of run {life.number} ({life.run_id})"
            states = [data["i"] for data in seen.of("values") if "i" in data]
            if not (set(wanted) <= set(seen.steps) and set(wanted) <= set(states)):
                self.result.lost.append(f"{name}: {seen.steps}, {states}")
            # What the run takes is a state of its own, after the same step.
            more_states = (Counter(states) - executed).total()
            if Counter(seen.steps) - executed or more_states > len(life.said):
                self.result.repeated.append(f"{name}: {seen.steps}, {states}")
            if seen.numbers != sorted(set(seen.numbers)):
                self.result.repeated.append(f"{name}: ids {seen.numbers}")

    async def _prove_dates(self, http: httpx.AsyncClient, cron: dict[str, Any]) -> None:
        """Each date from the first one on is one run, or told by the run after it."""
        path = f"/runs/crons/{cron['cron_id']}"
        stopped = await self._ask(http, "PATCH", path, {"enabled": False})
        thread = f"/threads/{cron['thread_id']}"

        async def rests() -> bool:
            return (await self._ask(http, "GET", thread))["status"] == "idle"

        try:
            await until(rests, within_s=STUCK_S)
        except AssertionError:
            self.result.stuck.append(f"the runs of a cron: {await self._ask(http, 'GET', thread)}")
            return
        found: list[dict[str, Any]] = []
        while page := await self._ask(http, "GET", f"{thread}/runs?limit=100&offset={len(found)}"):
            found += page
        expected = datetime.fromisoformat(cron["next_run_date"])
        for run in found[::-1]:
            due = datetime.fromtimestamp((uuid.UUID(run["run_id"]).int >> 80) / 1000, UTC)
            missed = run["metadata"].get("cron_missed", 0)
            if due > expected:
                self.result.lost.append(f"a cron's dates from {expected} to {due}")
            elif due < expected:
                self.result.repeated.append(f"a cron's date {due}")
            if run["status"] != "success":
                self.result.lost.append(f"a cron's run of {due}: {run['status']}")
            self.result.firings += 1
            self.result.missed += missed
            expected = due + timedelta(seconds=1 + missed)
        if expected != datetime.fromisoformat(stopped["next_run_date"]):
            self.result.lost.append(f"a cron's dates from {expected} on")
        await self._ask_to_delete(http, path)

    async def _ask_to_delete(self, http: httpx.AsyncClient, path: str) -> None:
        async with asyncio.timeout(STUCK_S):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.delete(path)).status_code in (204, 404):
                        return
                await asyncio.sleep(0.1)

    async def _prove_nothing_is_left(self, http: httpx.AsyncClient) -> None:
        async def at_rest() -> bool:
            counts = (await self._ask(http, "GET", "/info"))["counts"]
            idle = not counts["running"] and not counts["pending"]
            return idle and not any(member["runs"] for member in counts["pool"])

        try:
            await until(at_rest, within_s=30.0)
        except AssertionError:
            self.result.left.append(f"at work: {await self._ask(http, 'GET', '/info')}")
        alive = Counter(name.partition(".")[0].partition("#")[0] for name in self._server.actors())
        if alive["RegistryActor"] != self.registries:
            self.result.left.append(f"processes: {alive}")

    async def watch_memory(self, every_s: float) -> None:
        while True:
            for name, process in self._server.actors().items():
                with contextlib.suppress(psutil.NoSuchProcess):
                    mib = process.memory_info().rss / (1 << 20)
                    key = f"{name.partition('.')[0].partition('#')[0]} {process.pid}"
                    self.result.memory_mib.setdefault(key, []).append(mib)
            await asyncio.sleep(every_s)


async def chaos(
    server: Served,
    effects: Effects,
    *,
    seed: int,
    runs: int | None = None,
    seconds: float | None = None,
    kill: float = 0.8,
    memory: bool = False,
    registries: int = 1,
    kinds: Mapping[str, int] = KINDS,
    stateless: bool = True,
) -> Result:
    calm_after_s = seconds / 2 if memory and seconds is not None else math.inf
    driver = Chaos(
        server,
        effects,
        seed,
        kill=kill,
        calm_after_s=calm_after_s,
        registries=registries,
        kinds=kinds,
        stateless=stateless,
    )
    watcher = asyncio.create_task(driver.watch_memory(10.0)) if memory else None
    try:
        return await driver.run(runs=runs, seconds=seconds)
    finally:
        if watcher is not None:
            watcher.cancel()


ENOUGH_SAMPLES = 20
"""Two hundred seconds: who was killed before is not measured."""


def growing(memory_mib: dict[str, list[float]]) -> list[str]:
    """Processes that lived through the second half and grew by more than a fifth in it."""
    found = []
    for name, samples in memory_mib.items():
        late = samples[len(samples) // 2 :]
        if len(samples) >= ENOUGH_SAMPLES and late[-1] > late[0] * 1.2 + 20:
            found.append(f"{name}: {late[0]:.0f} -> {late[-1]:.0f} MiB")
    return found


def memory_rows(memory_mib: dict[str, list[float]]) -> list[str]:
    """Per kind of process: the one that grew most in the second half of its life."""
    kinds: dict[str, list[tuple[float, float]]] = {}
    for name, samples in memory_mib.items():
        if len(samples) >= ENOUGH_SAMPLES:
            pair = samples[len(samples) // 2], samples[-1]
            kinds.setdefault(name.partition(" ")[0], []).append(pair)
    rows = []
    for kind, pairs in sorted(kinds.items()):
        middle, end = max(pairs, key=lambda pair: pair[1] - pair[0])
        each = f"{kind}, the one of {len(pairs)} that grew most" if len(pairs) > 1 else kind
        rows.append(f"| memory of {each}, MiB: middle, end | {middle:.0f}, {end:.0f} |")
    return rows


def keep(table: str, mark: str) -> None:
    """Puts the table between ``<!-- mark -->`` and ``<!-- /mark -->``."""
    page = PAGE.read_text()
    head, begin, rest = page.partition(f"<!-- {mark} -->")
    _, end, tail = rest.partition(f"<!-- /{mark} -->")
    PAGE.write_text(f"{head}{begin}\n{table}\n{end}{tail}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, action="append", help="may be given several times")
    parser.add_argument("--kill", type=float, default=0.2, help="kills a second")
    parser.add_argument("--shards", type=int, default=1, help="registries")
    parser.add_argument("--memory", action="store_true", help="prove that no process grows")
    parser.add_argument("--keep", action="store_true", help="write the table into the docs")
    given = parser.parse_args()
    seeds = given.seed or [int(time.time())]
    problems: list[str] = []
    tables: list[str] = []
    for seed in seeds:
        result = once(given, seed)
        tables.append("\n".join([result.table(seed), *memory_rows(result.memory_mib)]))
        print(tables[-1], flush=True)
        problems += result.problems
        problems += growing(result.memory_mib) if given.memory else []
    if given.keep:
        keep("\n\n".join(tables), "soak" if given.memory else "chaos")
    print(*problems, sep="\n")
    sys.exit(1 if problems else 0)


def once(given: argparse.Namespace, seed: int) -> Result:
    """One server, and all runs of one seed."""
    environment = {"GREENROOM_REGISTRY_SHARDS": str(given.shards)}
    with tempfile.TemporaryDirectory() as scratch:
        effects = Effects(Path(scratch))
        config = HERE / "langgraph.json"
        with serving(Path(scratch) / "server", config, environment=environment) as server:
            return asyncio.run(
                chaos(
                    server,
                    effects,
                    seed=seed,
                    runs=given.runs,
                    seconds=given.minutes * 60 if given.minutes else None,
                    kill=given.kill,
                    memory=given.memory,
                    registries=given.shards,
                )
            )


if __name__ == "__main__":
    main()
