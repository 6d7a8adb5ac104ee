"""The relay and its viewers, over a real broker, with the machine at the other end of a pty or TCP connection."""

import asyncio
import hashlib
import random


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
