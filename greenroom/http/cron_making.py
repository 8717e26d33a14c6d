"""Makes crons of bodies, and checks them: what is stored of a cron, and what is refused.

A body becomes a run's request here already, so that a mistake is refused when the cron is made and
not when it fires.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from greenroom.core.crons import Cron
from greenroom.core.errors import InvalidRequest, NotFound, TooLarge
from greenroom.core.ports import (
    JsonObject,
)
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.units import KIB
from greenroom.http.bodies import validated
from greenroom.http.creation import check_run
from greenroom.http.edge import Edge
from greenroom.http.gates import (
    creates_run,
)
from greenroom.http.parameters import new_id, new_run_id
from greenroom.schedules import schedule_of
from greenroom.sealing.runs import sealed_run
from greenroom.wire.encoding import dumps, loads
from greenroom.wire.models import CronCreate, CronOptions, CronPatch
from greenroom.wire.requests import firing_of, plain

MAX_PAYLOAD_BYTES = 1024 * KIB
"""The largest body of a cron. Its registry reads it at each firing, and decides nothing else
meanwhile."""

_MISPLACED = {
    "on_completion": "give 'on_run_completed'",
    "on_disconnect": "nobody waits for its runs",
}
"""Fields of a run that a cron does not have, and the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What of a cron no client can change: its id, its thread, and its assistant's record."""

    cron_id: str
    thread_id: str | None
    assistant: JsonObject


def payload_of(wanted: Wanted, given: JsonObject) -> JsonObject:
    """Returns a body as its cron keeps it: with the ids of the assistant and the cron."""
    payload = {key: value for key, value in given.items() if value is not None}
    payload["assistant_id"] = wanted.assistant["assistant_id"]
    config = plain(payload.get("config"))
    configurable = plain(config.get("configurable")) | {"cron_id": wanted.cron_id}
    return payload | {"config": {**config, "configurable": configurable}}


async def creates_runs(edge: Edge, wanted: Wanted, payload: JsonObject) -> tuple[JsonObject, Scope]:
    """Asks whether the caller may create the runs of a cron: nobody is there when it fires.

    Returns:
        the payload as a handler has left it, and the threads that the runs may be on.
    """
    if edge.gate.is_open:
        return payload, SERVER
    body = validated(CronCreate, payload)
    scope, left = await creates_run(
        edge,
        body,
        thread_id=wanted.thread_id,
        assistant_id=str(wanted.assistant["assistant_id"]),
        run_id=new_id(),
    )
    changed = {
        name: getattr(left, name)
        for name in ("input", "metadata", "context", "command")
        if getattr(left, name) != getattr(body, name)
    }
    return {**payload, **changed}, scope


def cron_of(edge: Edge, wanted: Wanted, payload: JsonObject, *, metadata: JsonObject) -> Cron:
    """Checks a cron's payload, and makes the cron of it, without its next date.

    Raises:
        InvalidRequest, BadRequest: a run would be refused with this body, or a field of the cron is
            wrong.
        TooLarge: the payload is larger than `MAX_PAYLOAD_BYTES`.
    """
    body = validated(CronCreate, payload)
    _refuse_misplaced(body, wanted.thread_id)
    if body.multitask_strategy == "inject":
        raise InvalidRequest(
            "A cron creates runs and speaks to none: choose another multitask_strategy than"
            " 'inject'."
        )
    check_run(edge, body)
    thread_id = wanted.thread_id or new_id()
    firing_of(
        payload,
        wanted.assistant,
        cron_id=wanted.cron_id,
        run_id=new_run_id(thread_id),
        thread_id=thread_id,
        stateless=wanted.thread_id is None,
        scope=SERVER,  # only looked at: it is admitted when it fires
        user=None,
    )
    schedule_of(body.schedule, body.timezone)
    encoded = dumps(payload)
    if len(encoded) > MAX_PAYLOAD_BYTES:
        raise TooLarge(
            f"The body of a cron must not be longer than {MAX_PAYLOAD_BYTES} bytes; put the rest "
            "where its graph finds it."
        )
    stateless = wanted.thread_id is None
    return Cron(
        cron_id=wanted.cron_id,
        assistant_id=str(wanted.assistant["assistant_id"]),
        thread_id=wanted.thread_id,
        schedule=body.schedule,
        timezone=body.timezone,
        end_time=_end_time(body.end_time),
        enabled=body.enabled is not False,
        on_run_completed=(body.on_run_completed or "delete") if stateless else None,
        payload=encoded,
        metadata=dumps(metadata),
        next_run_date=None,
    )


async def as_stored(edge: Edge, cron: Cron) -> Cron:
    """Returns a cron as it is stored."""
    if not edge.sealing.is_on:
        return cron
    payload = await edge.sealing.apart(sealed_run, edge.sealing, loads(cron.payload))
    return replace(cron, payload=dumps(payload))


async def changed_cron(
    edge: Edge, cron_id: str, body: CronPatch, given: JsonObject, scope: Scope
) -> Cron:
    """Returns a cron with a client's changes, for `Runtime.save_cron`."""
    found = await edge.records.get_cron(cron_id, scope=scope)
    if found is None:
        raise NotFound(f"Cron '{cron_id}' not found")
    stored, revision = found
    # Named when the cron was made, by who could read it then.
    assistant = await edge.records.get_assistant(stored["assistant_id"], scope=SERVER)
    if assistant is None:
        raise NotFound(f"Cron '{cron_id}' not found")  # it goes with its assistant
    _refuse_moved(stored, given)
    wanted = Wanted(cron_id=cron_id, thread_id=stored["thread_id"], assistant=assistant)
    payload = {**plain(stored["payload"]), **{k: v for k, v in given.items() if v is not None}}
    if "end_time" in given and given["end_time"] is None:
        payload.pop("end_time", None)
    metadata = {**plain(stored["metadata"]), **(body.metadata or {})}
    if body.metadata is not None:
        payload["metadata"] = metadata
    payload = payload_of(wanted, payload)
    own = payload.get("metadata")
    payload, _ = await creates_runs(edge, wanted, payload)
    if edge.gate.identity != stored["user_id"] and own is not None:
        # Its runs stay those of the user who has made it.
        payload["metadata"] = own
    cron = cron_of(edge, wanted, payload, metadata=metadata)
    cron = replace(cron, revision=revision)
    # A cron that has not fired begins again, and does not make up for the time between.
    begins = cron.enabled and not _fires(stored)
    if body.schedule is not None or body.timezone is not None or begins:
        return replace(cron, next_run_date=next_date(cron))
    return cron


def _fires(stored: JsonObject) -> bool:
    end_time = stored["end_time"]
    due = datetime.fromisoformat(stored["next_run_date"])
    return stored["enabled"] and (end_time is None or due <= datetime.fromisoformat(end_time))


def next_date(cron: Cron) -> datetime:
    return schedule_of(cron.schedule, cron.timezone).next_after(datetime.now(UTC))


def _end_time(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        # Without an offset it is UTC, as a schedule is without a time zone.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"end_time must be a date and time such as '2027-01-31T18:00:00+01:00', not "
            f"{value[:80]!r}."
        ) from None


def _refuse_misplaced(body: CronOptions, thread_id: str | None) -> None:
    for name, reason in _MISPLACED.items():
        if getattr(body, name) is not None:
            raise InvalidRequest(f"A cron has no '{name}': {reason}.")
    if thread_id is not None and body.on_run_completed == "delete":
        raise InvalidRequest(
            "on_run_completed must not be 'delete' for a cron on a thread: its runs keep the "
            "thread."
        )


def _refuse_moved(stored: JsonObject, given: JsonObject) -> None:
    for name in ("assistant_id", "thread_id"):
        value = given.get(name)
        if value is not None and value != stored[name]:
            raise InvalidRequest(
                f"The {name} of a cron cannot be changed; remove it from the body, or create "
                "another cron."
            )
