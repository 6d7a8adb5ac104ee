"""The connection: one command at a time, and an end to it at the first doubt, with a RST."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from esp8266_agent import pins, protocol
from esp8266_agent.client import CommandLink, LinkError
from esp8266_agent.protocol import ReplyError

READ = pins.read_pin(2, pins.INPUT_MODE)
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Ended:
    """How the client ended the connection, as the peer saw it."""

    how: str = ""


@asynccontextmanager
async def peer(behaviour: Behaviour, timeout: float = 0.5) -> AsyncIterator[tuple[CommandLink, Ended]]:
    ended = Ended()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour(reader, writer)
            ended.how = "closed" if await reader.read() == b"" else "data"
        except ConnectionResetError:
            ended.how = "reset"
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    link = await CommandLink.open(host, port, connect_timeout=2, command_timeout=timeout)
    try:
        yield link, ended
    finally:
        link.abort("test is over")
        server.close()


def answers(*replies: bytes) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            await reader.read(1000)
            writer.write(reply)

    return behave


async def test_ask() -> None:
    async with peer(answers(b"digital input: [1]\n", b"digital input: [0]\n")) as (link, _):
        assert await link.ask(READ) is True
        assert await link.ask(READ) is False
        assert 0 < link.round_trip < 0.5


async def test_reply_in_pieces() -> None:
    async def behave(reader, writer) -> None:
        await reader.read(100)
        for octet in b"digital input: [1]\n":
            writer.write(bytes([octet]))
            await asyncio.sleep(0.002)

    async with peer(behave) as (link, _):
        assert await link.ask(READ) is True


async def test_no_answer_resets_the_connection(wait_until) -> None:
    async def behave(reader, writer) -> None:
        await reader.read(100)

    async with peer(behave, timeout=0.2) as (link, ended):
        with pytest.raises(LinkError, match="no answer") as caught:
            await link.ask(READ)
        assert caught.value.sent
        await wait_until(lambda: ended.how == "reset", "reset")
        with pytest.raises(LinkError) as caught:
            await link.ask(READ)
        assert not caught.value.sent


@pytest.mark.parametrize("reply", [b"digital output: [1]\n", b"x\n", b"digital input: [1]\nmore"])
async def test_another_answer_resets_the_connection(wait_until, reply: bytes) -> None:
    async with peer(answers(reply)) as (link, ended):
        with pytest.raises(ReplyError):
            await link.ask(READ)
        await wait_until(lambda: ended.how == "reset", "reset")


async def test_refusal_keeps_the_connection() -> None:
    async with peer(answers(b"trigger on 0/0: cannot trigger this pin\n", b"digital input: [1]\n")) as (link, _):
        with pytest.raises(protocol.RefusedError):
            await link.ask(pins.trigger(0, "on"))
        assert await link.ask(READ) is True


async def test_unasked_data_resets_the_connection(wait_until) -> None:
    async def behave(reader, writer) -> None:
        writer.write(b"digital input: [1]\n")
        await reader.read(100)

    async with peer(behave) as (link, _):
        await wait_until(lambda: link.error is not None, "noticed")
        assert "not asked for" in str(link.error)


async def test_endless_answer_is_bounded(wait_until) -> None:
    async def behave(reader, writer) -> None:
        await reader.read(100)
        writer.write(b"x" * 10_000)

    async with peer(behave) as (link, _):
        with pytest.raises(LinkError, match="longer than any"):
            await link.ask(READ)


async def test_take_over_is_told_from_a_close(wait_until) -> None:
    async def reset(reader, writer) -> None:
        await reader.read(100)
        writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with peer(reset) as (link, _):
        with pytest.raises(LinkError) as caught:
            await link.ask(READ)
        assert caught.value.reset
        assert caught.value.sent

    async def close(reader, writer) -> None:
        await reader.read(100)
        writer.close()

    async with peer(close) as (link, _):
        with pytest.raises(LinkError) as caught:
            await link.ask(READ)
        assert not caught.value.reset


async def test_cancelled_in_a_command_resets_the_connection(wait_until) -> None:
    async def behave(reader, writer) -> None:
        await reader.read(100)

    async with peer(behave, timeout=5) as (link, ended):
        task = asyncio.create_task(link.ask(READ))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_until(lambda: ended.how == "reset", "reset")


async def test_never_two_commands_at_once() -> None:
    async def behave(reader, writer) -> None:
        for _ in range(20):
            assert await reader.read(1000) == b"ir 0 2\r\n"
            await asyncio.sleep(0.005)
            writer.write(b"digital input: [1]\n")

    async with peer(behave) as (link, _):
        assert await asyncio.gather(*(link.ask(READ) for _ in range(20))) == [True] * 20


async def test_resync_swallows_what_was_left() -> None:
    async with peer(answers(b"it 0 0 on: command unknown\n", b"> empty command\n")) as (link, _):
        await link.resync()
    async with peer(answers(b"login: ", b"login: ")) as (link, _):
        with pytest.raises(ReplyError, match="Universal I/O bridge"):
            await link.resync()


async def test_a_late_answer_to_an_earlier_question_is_not_taken_for_the_next() -> None:
    async with peer(answers(b"> empty command\n", b'identification is "x"\n')) as (link, _):
        await link.resync()
        with pytest.raises(ReplyError):
            await link.ask(READ)


async def test_nobody_there() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    server.close()
    await server.wait_closed()
    with pytest.raises(LinkError, match="refused") as caught:
        await CommandLink.open(host, port, connect_timeout=1, command_timeout=1)
    assert not caught.value.sent
