"""Events of a thread's log as clients of event streaming see them.

    event: values\\r\\n
    data: {"type":"event","event_id":"…","seq":4311744513,"method":"values","params":{…}}\\r\\n
    id: 4311744513\\r\\n
    \\r\\n

Clients read the JSON only. A WebSocket sends it alone, one object in a frame.
"""

from __future__ import annotations

import time

import orjson

from greenroom.core.thread_log import DROPPED, LogEvent, place_of
from greenroom.wire.encoding import dumps


def event_json(event: LogEvent) -> bytes:
    """Encodes an event as the protocol's ``Event``."""
    params: dict[str, object] = {
        "namespace": list(event.namespace),
        "timestamp": event.event.at_ms,
    }
    if event.node:
        params["node"] = event.node
    params["data"] = orjson.Fragment(event.event.data)
    return dumps(
        {
            "type": "event",
            "event_id": event.id,
            "seq": event.seq,
            "method": event.method,
            "params": params,
        }
    )


def dropped_json(since: int, dropped_to: int) -> bytes:
    """Encodes the news that the events between two positions are not kept any more.

    Its ``seq`` is that of the last event that is gone: a client goes on from there.
    """
    number, _ = place_of(dropped_to)
    return dumps(
        {
            "type": "event",
            "event_id": f"dropped:{dropped_to}",
            "seq": dropped_to,
            "method": DROPPED,
            "params": {
                "namespace": [],
                "timestamp": time.time_ns() // 1_000_000,
                "data": {"since": since, "dropped_through_seq": dropped_to, "run_number": number},
            },
        }
    )


def log_frame(method: str, data: bytes, seq: int) -> bytes:
    """Frames an encoded event for an event stream."""
    return b"event: %b\r\ndata: %b\r\nid: %d\r\n\r\n" % (method.encode(), data, seq)
