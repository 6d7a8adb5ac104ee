"""The bus against a real Mosquitto: delivery, requests, loss of the broker, twins, retained truth."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pypmi.bus import Bus, BusDisconnectedError, BusRefusedError, Message, Requests, RetainedReplay
from pypmi.config.mqtt import MqttSettings
from pypmi.contract import Topics


async def until(condition: Callable[[], Any], timeout: float = 10) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(bus: Bus) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(bus.run())
    try:
        async with asyncio.timeout(10):
            await bus.wait_connected()
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=["5", "3.1.1"])
def settings(request, mosquitto) -> MqttSettings:
    return MqttSettings(url=mosquitto.url, protocol=request.param)


async def test_messages_arrive_with_their_properties(settings):
    got: list[Message] = []
    receiver = Bus(settings, "receiver")
    receiver.subscribe("nodes/+/sol/tx", got.append)
    sender = Bus(settings, "sender")
    async with running(receiver), running(sender):
        await sender.publish(
            "nodes/n1/sol/tx",
            b"\x00\xff",
            response_topic="r",
            correlation=b"c",
            properties=(("stream", "s"), ("offset", "7")),
        )
        await until(lambda: got)
    assert (got[0].topic, got[0].payload, got[0].retain) == ("nodes/n1/sol/tx", b"\x00\xff", False)
    if settings.protocol == "5":
        assert (got[0].response_topic, got[0].correlation) == ("r", b"c")
        assert got[0].properties == (("stream", "s"), ("offset", "7"))


async def test_live_retained_commands_show_their_flag_and_old_ones_stay_away(mosquitto):
    settings = MqttSettings(url=mosquitto.url)
    sender = Bus(settings, "sender")
    got: list[Message] = []
    receiver = Bus(settings, "receiver")
    receiver.subscribe("nodes/n1/power/set", got.append, qos=0, replay=RetainedReplay.NEVER)
    async with running(sender):
        await sender.publish("nodes/n1/power/set", b"on", retain=True)
        async with running(receiver):
            await sender.publish("nodes/n1/power/set", b"off", retain=True)
            await until(lambda: got)
    assert [(message.payload, message.retain) for message in got] == [(b"off", True)]


async def test_without_a_connection_everything_fails_at_once_and_says_why(mosquitto, settings):
    bus = Bus(settings, "lonely")
    with pytest.raises(BusDisconnectedError):
        bus.publish_nowait("t", b"")
    async with running(bus):
        lost: list[str] = []
        bus.on_disconnected(lost.append)
        requests = Requests(bus, Topics(), "lonely")
        with requests.exchange("id1") as exchange:
            waiting = asyncio.create_task(exchange.next(30))
            await asyncio.sleep(0)
            await mosquitto.stop()
            with pytest.raises(BusDisconnectedError):
                async with asyncio.timeout(5):
                    await waiting
        with pytest.raises(BusDisconnectedError, match="no connection"):
            await bus.publish("t", b"")
        assert lost


async def test_after_a_broker_restart_subscriptions_and_retained_topics_are_there_again(mosquitto, settings):
    got: list[Message] = []
    keeper, watcher = Bus(settings, "keeper"), Bus(settings, "watcher")
    watcher.subscribe("services/+/info", got.append)
    keeper.set_retained("services/keeper/info", b"1")
    async with running(keeper), running(watcher):
        await until(lambda: got)
        await mosquitto.stop()
        await until(lambda: not keeper.connected and not watcher.connected)
        keeper.set_retained("services/keeper/info", b"2")
        got.clear()
        await mosquitto.start()
        await until(lambda: got, 20)
        assert {message.payload for message in got} == {b"2"}
        assert keeper.reconnects == 1


async def test_nothing_that_was_under_way_is_sent_late(mosquitto, settings):
    """A publish that was cut off fails, and is not repeated on the next connection."""
    got: list[Message] = []
    sender, watcher = Bus(settings, "sender"), Bus(settings, "watcher")
    watcher.subscribe("nodes/+/power/set", got.append)
    async with running(sender), running(watcher):
        assert mosquitto.process is not None
        mosquitto.process.send_signal(19)  # SIGSTOP: the TCP connection takes the bytes, nobody reads them
        publishing = asyncio.create_task(sender.publish("nodes/n1/power/set", b"on"))
        await asyncio.sleep(0.1)
        mosquitto.process.send_signal(9)
        await mosquitto.stop()
        with pytest.raises(BusDisconnectedError):
            await publishing
        await mosquitto.start()
        await until(lambda: sender.connected and watcher.connected, 20)
        await sender.publish("nodes/n1/power/set", b"off")
        await until(lambda: got)
        assert [message.payload for message in got] == [b"off"]


async def test_request_and_replies(settings):
    def answer(message: Message) -> None:
        request = json.loads(message.payload)
        for status in ("accepted", "completed"):
            server.publish_nowait(
                message.response_topic or request["reply_to"],
                json.dumps({"id": request["id"], "status": status}).encode(),
                correlation=message.correlation,
            )

    server, client = Bus(settings, "server"), Bus(settings, "client")
    server.subscribe("nodes/n1/power/set", answer, qos=0)
    requests = Requests(client, Topics(), "client")
    async with running(server), running(client):
        with requests.exchange("abc") as exchange:
            payload = json.dumps({"id": "abc", "reply_to": exchange.response_topic}).encode()
            await client.publish(
                "nodes/n1/power/set", payload, response_topic=exchange.response_topic, correlation=exchange.correlation
            )
            statuses = [json.loads((await exchange.next(5)).payload)["status"] for _ in range(2)]
            assert statuses == ["accepted", "completed"]
            with pytest.raises(TimeoutError):
                await exchange.next(0.05)


async def test_replies_that_are_none_disturb_nothing(mosquitto, caplog):
    """Without correlation data (MQTT 3.1.1) the id stands in the payload, which may be anything."""
    bus = Bus(MqttSettings(url=mosquitto.url), "client")
    requests = Requests(bus, Topics(), "client")
    async with running(bus):
        with requests.exchange("a") as exchange:
            wrong = (b"", b"{", b"[" * 20_000, b"null", b'{"id": {}}', b"x" * 100_000, b'{"id": "b"}')
            for payload in (*wrong, b'{"id": "a"}'):
                await bus.publish(exchange.response_topic, payload)
            assert (await exchange.next(5)).payload == b'{"id": "a"}'
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_no_subscribers_is_told(mosquitto):
    bus = Bus(MqttSettings(url=mosquitto.url), "b")
    async with running(bus):
        assert (await bus.publish("nodes/n1/power/set", b"on")).no_subscribers


async def test_the_will_waits_for_a_short_absence(mosquitto):
    settings = MqttSettings(url=mosquitto.url, session_expiry=2)
    will = ("services/s/availability", b"offline")
    got: list[bytes] = []
    watcher = Bus(settings, "watcher")
    watcher.subscribe("services/s/availability", lambda message: got.append(message.payload))
    async with running(watcher):
        for _ in range(2):  # a crash and a quick return, twice
            service = Bus(settings, "s", will=will)
            async with running(service) as task:
                assert service._link is not None
                service._link.abort()  # no DISCONNECT: as a killed process
                task.cancel()
        assert got == []
        await until(lambda: got == [b"offline"], 15)


async def test_a_handler_that_fails_stops_nobody(mosquitto, caplog):
    got: list[Message] = []

    def broken(_message: Message) -> None:
        raise RuntimeError("boom")

    bus = Bus(MqttSettings(url=mosquitto.url), "b")
    bus.subscribe("t", broken)
    bus.subscribe("t", got.append)
    async with running(bus):
        await bus.publish("t", b"1")
        await bus.publish("t", b"2")
        await until(lambda: len(got) == 2)
    assert "boom" in caplog.text


async def test_wrong_password_is_said_and_tried_again(tmp_path, mosquitto, monkeypatch, caplog):
    await mosquitto.stop()
    mosquitto.extra = ("allow_anonymous false",)
    await mosquitto.start()
    monkeypatch.setenv("BROKER_PASSWORD", "not-this-one")
    bus = Bus(MqttSettings(url=mosquitto.url, username="u", password={"env": "BROKER_PASSWORD"}), "b")
    task = asyncio.create_task(bus.run())
    await until(lambda: "refused the connection" in bus.last_error)
    assert "not-this-one" not in caplog.text
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_subscriptions_added_and_removed_while_connected(mosquitto):
    bus = Bus(MqttSettings(url=mosquitto.url), "b")
    got: list[bytes] = []

    def handler(message: Message) -> None:
        got.append(message.payload)

    async with running(bus):
        bus.subscribe("t", handler)
        await bus.publish("t", b"1")
        await until(lambda: got == [b"1"])
        bus.unsubscribe("t", handler)
        await bus.publish("t", b"2")
        await bus.publish("u", b"3")
        assert got == [b"1"]


async def test_too_many_waiting_messages_are_an_error_and_not_a_leak(mosquitto):
    from pypmi.bus import BusOverflowError

    bus = Bus(MqttSettings(url=mosquitto.url, max_pending=100), "b")
    async with running(bus):
        for _ in range(100):
            bus.publish_nowait("t", b"x")
        with pytest.raises(BusOverflowError):
            bus.publish_nowait("t", b"x")


async def test_a_publish_that_the_access_rules_forbid_is_an_error(mosquitto, tmp_path):
    await mosquitto.stop()
    rules = tmp_path / "acl"
    rules.write_text("topic read #\n")
    mosquitto.extra = ("allow_anonymous true", f"acl_file {rules}")
    await mosquitto.start()
    bus = Bus(MqttSettings(url=mosquitto.url), "b")
    async with running(bus):
        with pytest.raises(BusRefusedError):
            await bus.publish("nodes/n1/power/set", b"on")
