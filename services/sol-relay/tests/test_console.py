"""The relay and its viewers, over a real broker, with the machine at the other end of a pty or TCP connection."""

import asyncio
import hashlib
import json
import random

import pytest
from pypmi.console import ConsoleOfflineError, ConsoleRefusedError
from pypmi.contract import SolPosition
from sol_relay import console


def noise(octets: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(octets)


async def test_bytes_are_bytes_in_both_directions(setup, pty):
    everything = bytes(range(256)) * 4
    async with setup.relay(n1=f"type: serial, path: {pty.path}"):
        client, seen = await setup.attached(await setup.hub(), "n1")
        await setup.until(lambda: not client.why_offline)
        await pty.say(everything)
        await setup.until(lambda: len(seen.data) >= len(everything))
        assert seen.data == everything
        await client.write(everything)
        await client.drain()
        heard = bytearray()
        await setup.until(lambda: heard.extend(pty.heard()) or len(heard) >= len(everything))
        assert bytes(heard) == everything


async def test_scrollback_comes_first_and_once(setup, pty):
    async with setup.relay(n1=f"type: serial, path: {pty.path}") as relay:
        await setup.until(lambda: relay.consoles[0].online)
        await pty.say(b"before" * 1000)
        await setup.until(lambda: relay.consoles[0].output.sent == 6000)
        hub = await setup.hub()
        clients = [await setup.attached(hub, "n1", scrollback=600) for _ in range(3)]
        late = await setup.hub("another")
        clients.append(await setup.attached(late, "n1", scrollback=100_000))
        await pty.say(b"after")
        for _, seen in clients:
            await setup.until(lambda seen=seen: seen.live == b"after")
        assert [seen.scrollback for _, seen in clients] == [b"before" * 100] * 3 + [b"before" * 1000]
        assert [seen.gaps for _, seen in clients] == [[]] * 4


async def test_scrollback_while_output_flows_has_no_hole_and_no_repeat(setup, pty):
    stream = b"".join(b"%06d\n" % number for number in range(40_000))
    async with setup.relay(n1=f"type: serial, path: {pty.path}, ring: 1048576"):
        hub = await setup.hub()
        first, all_seen = await setup.attached(hub, "n1")
        await setup.until(lambda: not first.why_offline)
        saying = asyncio.create_task(pty.say(stream))
        later = []
        for _ in range(6):
            later.append((await setup.attached(hub, "n1", scrollback=2000))[1])
            await asyncio.sleep(0.02)
        await saying
        await setup.until(lambda: len(all_seen.data) >= len(stream))
        assert all_seen.data == stream
        for seen in later:
            await setup.until(lambda seen=seen: seen.data.endswith(stream[-7:]))
            assert stream.endswith(seen.data)
            assert not seen.gaps


async def test_a_mebibyte_each_way_through_a_broker_restart(setup, pty):
    down, up = noise(1 << 20, 1), noise(1 << 20, 2)
    async with setup.relay(n1=f"type: serial, path: {pty.path}"):
        client, seen = await setup.attached(await setup.hub(), "n1")
        await setup.until(lambda: not client.why_offline)
        heard = bytearray()

        async def paste() -> None:
            sent = 0
            while sent < len(up):
                if client.why_offline:
                    await asyncio.sleep(0.05)
                    continue
                taken = client.write_nowait(up[sent : sent + 1000])
                sent += taken
                heard.extend(pty.heard())
                await asyncio.sleep(0 if taken else 0.005)

        async def restart() -> None:
            await setup.until(lambda: len(heard) > 200_000 and len(seen.data) > 200_000)
            await setup.mosquitto.stop()
            assert len(heard) < len(up)
            assert len(seen.data) < len(down)
            await asyncio.sleep(1)
            await setup.mosquitto.start()

        async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
            tasks.create_task(pty.say(down))
            tasks.create_task(paste())
            tasks.create_task(restart())
        await setup.until(
            lambda: heard.extend(pty.heard()) or (len(heard) >= len(up) and len(seen.data) >= len(down)), 60
        )
        assert hashlib.sha256(seen.data).digest() == hashlib.sha256(down).digest()
        assert hashlib.sha256(heard).digest() == hashlib.sha256(up).digest()
        assert not seen.gaps
        assert "input_lost" not in seen.notices


async def test_an_unplugged_adapter_comes_back_by_its_path_and_the_console_says_so(setup, pty):
    async with setup.relay(n1=f"type: serial, path: {pty.path}") as relay:
        events = await setup.listen("nodes/n1/events")
        client, seen = await setup.attached(await setup.hub(), "n1")
        await setup.until(lambda: not client.why_offline)
        await pty.say(b"before ")
        await setup.until(lambda: seen.data == b"before ")
        pty.unplug()
        await setup.until(lambda: "offline" in seen.notices)
        assert b"console link lost" in seen.data
        with pytest.raises(ConsoleOfflineError):
            client.write_nowait(b"typed into the void")
        pty.plug()
        await setup.until(lambda: "online" in seen.notices)
        assert b"console link is back" in seen.data
        await pty.say(b" after")
        await setup.until(lambda: seen.data.endswith(b" after"))
        await client.write(b"typed")
        await setup.until(lambda: pty.heard() == b"typed")
        await setup.until(lambda: len(events) == 2)
        assert [json.loads(event.payload)["type"] for event in events] == ["console_lost", "console_back"]
        assert relay.consoles[0].online


async def test_raw_tcp_console(setup):
    async with setup.machine() as machine, setup.relay(n1=f"type: tcp, host: 127.0.0.1, port: {machine.port}"):
        client, seen = await setup.attached(await setup.hub(), "n1")
        await setup.until(lambda: not client.why_offline)
        data = noise(300_000)
        await machine.say(data)
        await setup.until(lambda: len(seen.data) >= len(data))
        assert seen.data == data
        await client.write(data)
        await setup.until(lambda: len(machine.heard) >= len(data))
        assert machine.heard == data
        with pytest.raises(ConsoleRefusedError, match="RFC 2217"):
            await client.send_break()
        machine.heard.clear()
        await machine.drop()
        await setup.until(lambda: b"console link lost" in seen.data)
        await setup.until(lambda: b"console link is back" in seen.data)
        await client.write(b"again")
        await setup.until(lambda: machine.heard == b"again")


async def test_input_that_nobody_takes_is_refused_in_sight(setup, pty):
    async with setup.relay(n1=f"type: serial, path: {pty.path}"):
        client, seen = await setup.attached(await setup.hub(), "n1")
        await setup.until(lambda: not client.why_offline)
        pty.unplug()
        await setup.until(lambda: client.why_offline)
        bus = await setup.bus("shell")
        await bus.publish("nodes/n1/sol/tx", b"reboot\r")
        await setup.until(lambda: b"7 octets of input were not delivered" in seen.data)
        pty.plug()
        await setup.until(lambda: not client.why_offline)
        await bus.publish("nodes/n1/sol/tx", b"ls\r")
        await setup.until(lambda: pty.heard() == b"ls\r")


async def test_retained_input_and_requests_are_refused(setup, pty):
    bus = await setup.bus("shell")
    await bus.publish("nodes/n1/sol/tx", b"old", retain=True)
    async with setup.relay(n1=f"type: serial, path: {pty.path}") as relay:
        await setup.until(lambda: relay.consoles[0].online)
        await bus.publish("nodes/n1/sol/tx", b"now", retain=True)
        await bus.publish("nodes/n1/sol/set", b"not json")
        await bus.publish("nodes/n1/sol/set", b'{"id": "x", "action": "open", "viewer": "v"}', retain=True)
        await bus.publish("nodes/n1/sol/tx", b"", properties=(("stream", "s"), ("offset", "minus one")))
        await bus.publish("nodes/n1/sol/tx", b"fine")
        await setup.until(lambda: pty.heard() == b"fine")
        assert not len(relay.consoles[0].viewers)


async def test_an_answer_never_goes_to_a_topic_that_does_something(setup, pty):
    async with setup.relay(n1=f"type: serial, path: {pty.path}"):
        heard = await setup.listen("#")
        bus = await setup.bus("shell")
        for reply_to in ("nodes/n1/power/set", "services/gateway/availability", "nodes/+/state", "own/topic"):
            request = {"id": "r", "action": "replay", "reply_to": reply_to}
            await bus.publish("nodes/n1/sol/set", json.dumps(request).encode())
        await setup.until(lambda: any(message.topic == "own/topic" for message in heard))
        topics = {message.topic for message in heard}
        assert not topics & {"nodes/n1/power/set", "services/gateway/availability"}


async def test_duplicates_are_dropped_and_plain_publishers_are_served(setup, pty):
    async with setup.relay(n1=f"type: serial, path: {pty.path}") as relay:
        await setup.until(lambda: relay.consoles[0].online)
        bus = await setup.bus("shell")

        async def send(offset: int, data: bytes) -> None:
            await bus.publish("nodes/n1/sol/tx", data, properties=SolPosition("s1", offset).to_properties())

        await send(0, b"abc")
        await send(0, b"abc")
        await send(1, b"bcd")
        await bus.publish("nodes/n1/sol/tx", b"-")
        await send(4, b"e")
        heard = bytearray()
        await setup.until(lambda: heard.extend(pty.heard()) or len(heard) >= 6)
        assert heard == b"abcd-e"


async def test_one_writer_at_a_time(setup, pty):
    async with setup.relay(n1=f"type: serial, path: {pty.path}, writers: one") as relay:
        hub = await setup.hub()
        first, _ = await setup.attached(hub, "n1")
        second, second_seen = await setup.attached(hub, "n1")
        await setup.until(lambda: not first.why_offline)
        await first.write(b"mine")
        await setup.until(lambda: pty.heard() == b"mine")
        assert relay.consoles[0].viewers.writer == first.viewer
        await second.write(b"yours?")
        await setup.until(lambda: "input_lost" in second_seen.notices)
        first.detach()
        await setup.until(lambda: relay.consoles[0].viewers.writer is None)
        await second.write(b"now mine")
        await setup.until(lambda: pty.heard() == b"now mine")


async def test_viewers_are_counted(setup, pty):
    async with setup.relay(n1=f"type: serial, path: {pty.path}"):
        hub = await setup.hub()
        clients = [(await setup.attached(hub, "n1"))[0] for _ in range(3)]
        await setup.until(lambda: clients[0].state is not None and clients[0].state.viewers == 3)
        clients[2].detach()
        await setup.until(lambda: clients[0].state.viewers == 2)
        assert clients[0].state.baud == 115_200


async def test_a_restarted_relay_is_a_new_stream(setup, pty):
    hub = await setup.hub()
    async with setup.relay(n1=f"type: serial, path: {pty.path}"):
        client, seen = await setup.attached(hub, "n1")
        await setup.until(lambda: not client.why_offline)
        await pty.say(b"first run")
        await setup.until(lambda: seen.data == b"first run")
    await setup.until(lambda: client.why_offline)
    with pytest.raises(ConsoleOfflineError):
        client.write_nowait(b"x")
    async with setup.relay(n1=f"type: serial, path: {pty.path}"):
        await setup.until(lambda: not client.why_offline)
        await pty.say(b"second run")
        await setup.until(lambda: seen.data.endswith(b"second run"))
        assert "restarted" in seen.notices
        assert seen.gaps == [None]
        await client.write(b"typed")
        await setup.until(lambda: pty.heard() == b"typed")
        _, late = await setup.attached(hub, "n1")
        assert late.scrollback == b"second run"


async def test_what_falls_out_of_the_ring_while_the_broker_is_away_is_marked(setup, pty, monkeypatch):
    monkeypatch.setattr(console, "_HOLD", 0.0)
    async with setup.relay(n1=f"type: serial, path: {pty.path}, ring: 4096") as relay:
        client, seen = await setup.attached(await setup.hub(), "n1")
        await setup.until(lambda: not client.why_offline)
        await pty.say(b"start ")
        await setup.until(lambda: seen.data == b"start ")
        await setup.mosquitto.stop()
        await setup.until(lambda: client.why_offline)
        await pty.say(b"x" * 50_000 + b" end")
        await setup.until(lambda: relay.consoles[0].output.ring.end >= 50_010)
        await setup.mosquitto.start()
        await setup.until(lambda: seen.data.endswith(b" end"))
        assert b"octets of output lost" in seen.data
        assert sum(seen.gaps) == 50_004 - 4096
        state = client.state
        assert state is not None
        await setup.until(lambda: client.state.dropped > 50_004 - 4096)


async def test_a_slow_viewer_stalls_nobody(setup, pty):
    data = noise(1 << 20)
    async with setup.relay(n1=f"type: serial, path: {pty.path}") as relay:
        await setup.until(lambda: relay.consoles[0].online)
        reader, writer = await asyncio.open_connection("127.0.0.1", setup.mosquitto.port)
        # an MQTT 5 client that subscribes to sol/rx at QoS 1 and then reads nothing any more
        writer.write(bytes.fromhex("10110004 4d515454 05 02 003c 00 0004 736c6f77".replace(" ", "")))
        writer.write(bytes.fromhex("8212 0001 00 000c".replace(" ", "")) + b"nodes/n1/sol/rx"[:12] + b"\x01")
        await reader.readexactly(4)
        _, seen = await setup.attached(await setup.hub(), "n1")
        await pty.say(data)
        await setup.until(lambda: len(seen.data) >= len(data), 60)
        assert seen.data == data
        assert not seen.gaps
        writer.close()


async def test_mqtt_3_1_1_carries_bytes_too(setup, pty):
    setup.protocol = "3.1.1"
    up, down = noise(20_000, 1), noise(200_000, 2)
    async with setup.relay(n1=f"type: serial, path: {pty.path}") as relay:
        await setup.until(lambda: relay.consoles[0].online)
        await pty.say(b"before")
        await setup.until(lambda: relay.consoles[0].output.sent == 6)
        for name, protocol in (("old", "3.1.1"), ("new", "5")):
            client, seen = await setup.attached(await setup.hub(name, protocol), "n1")
            await setup.until(lambda client=client: not client.why_offline)
            assert seen.scrollback.endswith(b"before") or protocol == "5"
            await pty.say(down)
            await setup.until(lambda seen=seen: len(seen.live) >= len(down))
            assert seen.live == down
            heard = bytearray()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(client.write(up))
                await setup.until(lambda heard=heard: heard.extend(pty.heard()) or len(heard) >= len(up))
            assert heard == up
            client.detach()


async def test_the_fleet_changes_while_consoles_run(setup, pty, tmp_path):
    async with setup.machine() as machine, setup.relay(n1=f"type: serial, path: {pty.path}") as relay:
        client, seen = await setup.attached(await setup.hub(), "n1")
        await setup.until(lambda: not client.why_offline)
        both = {"n1": f"type: serial, path: {pty.path}", "n2": f"type: tcp, host: 127.0.0.1, port: {machine.port}"}
        await relay.reload(setup.load(both))
        other, _ = await setup.attached(await setup.hub("second"), "n2")
        await setup.until(lambda: not other.why_offline)
        await pty.say(b"undisturbed")
        await setup.until(lambda: seen.data == b"undisturbed")
        assert "offline" not in seen.notices
        await relay.reload(setup.load({"n2": both["n2"]}))
        await setup.until(lambda: client.state is None)
        assert relay.nodes() == ("n2",)
