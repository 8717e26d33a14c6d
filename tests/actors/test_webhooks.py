"""The sender of webhooks over real sockets and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpcore
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from actors.common.setup import WebhookSettings
from actors.registry import posting
from actors.registry.webhooks import MAX_PER_RECEIVER, OpenStored, WebhookSender
from greenroom.core.addresses import blocked
from greenroom.core.errors import NotFound
from greenroom.core.sharding import Shard
from greenroom.persistence import values as thread_values
from greenroom.persistence.database import Pool
from greenroom.sealing import Sealing
from greenroom.sealing.aes import AesGcm
from greenroom.sealing.runs import opened_run, sealed_run
from greenroom.wire.encoding import dumps
from tests.persistence.test_outbox import a_run, end
from tests.receiving import BOUND_S, Receiver, receiving
from tests.serving import free_port


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def sending(
    pool: Pool, *, open_stored: OpenStored | None = None, **settings: Any
) -> AsyncIterator[WebhookSender]:
    """A sender that is at work; fast, and allowed to reach this machine."""
    given = {"allow_private": True, "first_retry_s": 0.01, "timeout_s": 5.0}
    settings = given | settings
    sender = WebhookSender(pool, WebhookSettings(**settings), open_stored=open_stored)
    task = asyncio.create_task(sender.send())
    yield sender
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await sender.close()


async def announced(pool: Pool, url: str, sender: WebhookSender | None = None) -> str:
    """The end of a run, and the word of it that the registry gives."""
    run_id = await a_run(pool, "t", webhook=url)
    await end(pool, run_id)
    if sender is not None:
        sender.wake()
    return run_id


async def finished(pool: Pool, run_id: str) -> tuple[int, str]:
    """How often a delivery was sent, and what was said last; waits until it is finished."""
    async with asyncio.timeout(BOUND_S), pool.connection() as conn:
        while True:
            cursor = await conn.execute(
                "SELECT attempts, said FROM greenroom.webhooks"
                " WHERE run_id = %s AND settled_at IS NOT NULL",
                (run_id,),
            )
            if row := await cursor.fetchone():
                return row["attempts"], row["said"]
            await asyncio.sleep(0.01)


def leading_to(*answers: list[str]) -> Callable[[str, int], Any]:
    """A resolver that gives one answer after the other, and keeps giving the last."""
    left = list(answers)

    async def resolve(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


# --- what is sent -------------------------------------------------------------------------------


async def test_what_is_sealed_is_opened_before_it_leaves(pool: Pool, receiver: Receiver) -> None:
    sealing = Sealing(AesGcm({"k": b"k" * 32}))
    asked: list[set[str]] = []

    async def open_stored(parts: Mapping[str, bytes]) -> dict[str, bytes]:
        asked.append({*parts})
        return {
            name: opened_run(sealing, each) if name == "kwargs" else sealing.open_json(each)
            for name, each in parts.items()
        }

    kwargs = sealed_run(sealing, {"input": {"a": 1}, "context": {"b": 2}, "webhook": receiver.url})
    run_id = await a_run(pool, "t", webhook=receiver.url, kwargs=dumps(kwargs))
    await thread_values.store_values(pool, "t", b'{"a":2}', sealing=sealing)
    await end(pool, run_id)
    async with sending(pool, open_stored=open_stored) as sender:
        sender.wake()
        body = (await receiver.next()).body
    assert (body["kwargs"]["input"], body["kwargs"]["context"]) == ({"a": 1}, {"b": 2})
    assert body["values"] == {"a": 2}
    assert asked == [{"kwargs", "values"}]


async def test_a_delivery_is_posted_once_as_json(pool: Pool, receiver: Receiver) -> None:
    async with sending(pool) as sender:
        run_id = await announced(pool, receiver.url, sender)
        delivery = await receiver.next()
        assert await finished(pool, run_id) == (1, "200")
    assert (delivery.method, delivery.path) == ("POST", "/hook")
    assert delivery.headers["content-type"] == "application/json"
    assert delivery.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert delivery.body["run_id"] == run_id
    assert receiver.deliveries.empty()


async def test_what_was_due_before_the_start_is_sent(pool: Pool, receiver: Receiver) -> None:
    """The process that announced it died; nobody wakes the new one for it."""
    run_id = await announced(pool, receiver.url)
    async with sending(pool):
        assert (await receiver.next()).body["run_id"] == run_id
        assert await finished(pool, run_id) == (1, "200")


async def test_a_delivery_that_was_being_sent_at_the_end_of_a_sender_is_sent_again(
    pool: Pool, receiver: Receiver
) -> None:
    receiver.gate.clear()
    run_id = await announced(pool, receiver.url)
    async with sending(pool):
        await receiver.next()
    receiver.gate.set()
    async with sending(pool):
        assert (await receiver.next()).body["run_id"] == run_id
        assert await finished(pool, run_id) == (1, "200")


SECRETS = tuple("whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))


async def test_every_secret_signs_and_the_signature_is_of_what_is_sent(
    pool: Pool, receiver: Receiver
) -> None:
    """An implementation of others verifies it."""
    receiver.statuses.append(500)
    async with sending(pool, secrets=SECRETS, headers={"authorization": "Bearer x"}) as sender:
        run_id = await announced(pool, receiver.url, sender)
        for delivery in (await receiver.next(), await receiver.next()):
            assert delivery.headers["webhook-id"] == run_id
            assert delivery.headers["authorization"] == "Bearer x"
            assert len(delivery.headers["webhook-signature"].split(" ")) == 2
            for secret in SECRETS:
                Webhook(secret).verify(delivery.raw, delivery.headers)
            with pytest.raises(WebhookVerificationError):
                Webhook(SECRETS[0]).verify(delivery.raw + b" ", delivery.headers)
            other = "whsec_" + base64.b64encode(b"3" * 32).decode()
            with pytest.raises(WebhookVerificationError):
                Webhook(other).verify(delivery.raw, delivery.headers)


async def test_without_a_secret_there_is_no_signature(pool: Pool, receiver: Receiver) -> None:
    async with sending(pool) as sender:
        run_id = await announced(pool, receiver.url, sender)
        headers = (await receiver.next()).headers
    assert headers["webhook-id"] == run_id
    assert "webhook-signature" not in headers


async def test_a_path_is_one_of_this_server(pool: Pool, receiver: Receiver) -> None:
    own = {"allow_private": False, "own_url": receiver.url}
    async with sending(pool, **own) as sender:
        run_id = await announced(pool, "/mine?a=b", sender)
        assert (await receiver.next()).path == "/hook/mine?a=b"
        assert await finished(pool, run_id) == (1, "200")
        # Other addresses of this machine are none of the server's.
        refused = await announced(pool, receiver.url, sender)
        assert await finished(pool, refused) == (1, "127.0.0.1 leads to a loopback address")


async def test_this_machine_may_be_allowed_alone(pool: Pool, receiver: Receiver) -> None:
    async with sending(pool, allow_private=False, loopback=True) as sender:
        run_id = await announced(pool, receiver.url, sender)
        assert await finished(pool, run_id) == (1, "200")
        private = await announced(pool, "http://10.0.0.1/", sender)
        assert await finished(pool, private) == (1, "10.0.0.1 leads to a private address")


async def test_a_delivery_is_sent_again_on_request(pool: Pool, receiver: Receiver) -> None:
    receiver.statuses.append(404)
    async with sending(pool) as sender:
        run_id = await announced(pool, receiver.url, sender)
        first = await receiver.next()
        assert await finished(pool, run_id) == (1, "404")
        await sender.send_again(run_id)
        again = await receiver.next()
        assert await finished(pool, run_id) == (1, "200")
        assert (again.raw, again.headers["webhook-id"]) == (first.raw, run_id)
        with pytest.raises(NotFound):
            await sender.send_again("656ebb01-2f41-4e1c-8df6-f83b6e2bb98e")


# --- what is tried again ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_receiver_in_trouble_gets_the_same_delivery_again(
    pool: Pool, receiver: Receiver, status: int
) -> None:
    receiver.statuses.extend([status, status])
    async with sending(pool) as sender:
        run_id = await announced(pool, receiver.url, sender)
        bodies = [(await receiver.next()).body for _ in range(3)]
        assert await finished(pool, run_id) == (3, "200")
    assert bodies[0] == bodies[1] == bodies[2]


@pytest.mark.parametrize("status", [204, 400, 404, 410])
async def test_other_answers_are_final(pool: Pool, receiver: Receiver, status: int) -> None:
    receiver.statuses.append(status)
    async with sending(pool) as sender:
        run_id = await announced(pool, receiver.url, sender)
        assert await finished(pool, run_id) == (1, str(status))


async def test_a_delivery_is_given_up_after_the_last_attempt(
    pool: Pool, receiver: Receiver
) -> None:
    receiver.statuses.extend([500] * 9)
    async with sending(pool, max_attempts=3) as sender:
        run_id = await announced(pool, receiver.url, sender)
        assert await finished(pool, run_id) == (3, "500")
    assert receiver.deliveries.qsize() == 3


async def test_pauses_double(pool: Pool, receiver: Receiver) -> None:
    receiver.statuses.extend([500] * 4)
    loop = asyncio.get_running_loop()
    times: list[float] = []
    async with sending(pool, first_retry_s=0.1, max_attempts=4) as sender:
        run_id = await announced(pool, receiver.url, sender)
        for _ in range(4):
            await receiver.next()
            times.append(loop.time())
        await finished(pool, run_id)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True):
        assert pause >= least * 0.9


async def test_a_receiver_that_is_down_is_tried_until_it_is_up(pool: Pool) -> None:
    port = free_port()
    run_id = await announced(pool, f"http://127.0.0.1:{port}/hook")
    async with sending(pool, first_retry_s=0.05, max_attempts=20):
        async with asyncio.timeout(BOUND_S), pool.connection() as conn:
            while True:  # until it was refused once
                cursor = await conn.execute("SELECT said FROM greenroom.webhooks")
                row = await cursor.fetchone()
                if row and (row["said"] or "").startswith("ConnectError"):
                    break
                await asyncio.sleep(0.01)
        async with receiving(port=port) as receiver:
            assert (await receiver.next()).body["run_id"] == run_id
            attempts, said = await finished(pool, run_id)
    assert attempts > 1
    assert said == "200"


async def test_a_receiver_that_does_not_answer_is_left_after_a_while(
    pool: Pool, receiver: Receiver
) -> None:
    receiver.gate.clear()
    async with sending(pool, timeout_s=0.1, max_attempts=2) as sender:
        run_id = await announced(pool, receiver.url, sender)
        assert await finished(pool, run_id) == (2, "no answer within 0.1 s")


async def test_redirects_are_not_followed(pool: Pool, receiver: Receiver) -> None:
    receiver.statuses.append(307)
    receiver.location = f"http://127.0.0.1:{receiver.port}/elsewhere"
    async with sending(pool) as sender:
        run_id = await announced(pool, receiver.url, sender)
        assert await finished(pool, run_id) == (1, "307")
    assert (await receiver.next()).path == "/hook"
    assert receiver.deliveries.empty()


async def test_a_url_that_cannot_be_called_is_given_up_at_once(pool: Pool) -> None:
    async with sending(pool) as sender:
        run_id = await announced(pool, "http://[::1/", sender)
        attempts, said = await finished(pool, run_id)
        assert attempts == 1
        assert said.startswith("InvalidURL")


# --- who waits for whom -------------------------------------------------------------------------


async def test_a_slow_receiver_has_few_places_and_delays_nobody_else(pool: Pool) -> None:
    async with receiving() as slow, receiving() as quick, sending(pool) as sender:
        slow.gate.clear()
        late = [await announced(pool, slow.url, sender) for _ in range(40)]
        for _ in range(MAX_PER_RECEIVER):
            await slow.next()
        run_id = await announced(pool, quick.url, sender)
        assert (await quick.next()).body["run_id"] == run_id
        assert await finished(pool, run_id) == (1, "200")
        assert slow.most == MAX_PER_RECEIVER
        slow.gate.set()
        for run_id in late:
            assert await finished(pool, run_id) == (1, "200")
        assert slow.most == MAX_PER_RECEIVER


# --- where nothing is sent to -------------------------------------------------------------------


async def test_this_machine_is_not_called_without_permission(
    pool: Pool, receiver: Receiver
) -> None:
    async with sending(pool, allow_private=False) as sender:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"):
            run_id = await announced(pool, f"http://{host}:{receiver.port}/hook", sender)
            attempts, said = await finished(pool, run_id)
            assert attempts == 1
            assert said.endswith("leads to a loopback address")
    assert receiver.most == 0


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"]])
async def test_a_name_that_leads_inside_is_refused(
    receiver: Receiver, addresses: list[str]
) -> None:
    network = posting.PublicNetwork(resolve=leading_to(addresses))
    client = posting.open_client(allow_private=False, max_connections=1, network=network)
    async with client:
        url = f"http://innocent.example:{receiver.port}/"
        answer = await posting.post(client, url, b"{}", timeout_s=5)
    assert (answer.delivered, answer.again) == (False, False)
    assert answer.said.startswith("innocent.example leads to a ")
    assert receiver.most == 0


async def test_a_name_is_looked_up_once_and_the_address_that_was_judged_is_called(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is judged and private when it is called (DNS rebinding)."""
    called: list[str] = []

    class Network(httpcore.AsyncNetworkBackend):
        async def connect_tcp(self, host: str, *args: Any, **more: Any) -> Any:
            called.append(host)
            raise httpcore.ConnectError("far away")

    network = posting.PublicNetwork(resolve=leading_to(["93.184.216.34"], ["127.0.0.1"]))
    monkeypatch.setattr(network, "_network", Network())
    client = posting.open_client(allow_private=False, max_connections=1, network=network)
    async with client:
        url = f"http://rebinding.example:{receiver.port}/"
        answer = await posting.post(client, url, b"{}", timeout_s=5)
        assert answer.again
        assert called == ["93.184.216.34"]
        answer = await posting.post(client, url, b"{}", timeout_s=5)
    assert answer.said == "rebinding.example leads to a loopback address"
    assert called == ["93.184.216.34"]


async def test_a_proxy_of_the_environment_is_not_asked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{receiver.port}")
    network = posting.PublicNetwork(resolve=leading_to(["127.0.0.1"]))
    client = posting.open_client(allow_private=False, max_connections=1, network=network)
    async with client:
        answer = await posting.post(client, "http://innocent.example/", b"{}", timeout_s=5)
    assert answer.said == "innocent.example leads to a loopback address"
    assert receiver.most == 0


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("93.184.216.34", None),
        ("2606:2800:220:1:248:1893:25c8:1946", None),
        ("127.8.8.8", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("0.0.0.0", "private"),
        ("10.1.2.3", "private"),
        ("100.64.0.1", "private"),
        ("169.254.169.254", "private"),
        ("192.168.0.1", "private"),
        ("224.0.0.1", "private"),
        ("fe80::1%eth0", "private"),
        ("fd00::1", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:93.184.216.34", None),
        ("64:ff9b::a00:1", "private"),
    ],
)
def test_addresses_of_this_machine_and_of_private_networks_are_known(
    address: str, why: str | None
) -> None:
    assert blocked(address) == why


async def test_senders_side_by_side_send_what_is_of_their_own_threads(
    pool: Pool, receiver: Receiver
) -> None:
    """The delivery is due for both, and one of them sends it, once."""
    delivery = await announced(pool, receiver.url)
    settings = WebhookSettings(allow_private=True)
    senders = [WebhookSender(pool, settings, Shard(number, 2)) for number in range(2)]
    owner = next(number for number in range(2) if Shard(number, 2).has("t"))
    for number in (1 - owner, owner):
        assert receiver.deliveries.empty()
        await senders[number].send_due()
        await asyncio.gather(*senders[number].sending.values())
    assert await finished(pool, delivery) == (1, "200")
    assert receiver.deliveries.qsize() == 1
    for sender in senders:
        await sender.close()
