"""MQTT over WebSocket, as brokers behind a web proxy have it: an HTTP server here passes the octets on to Mosquitto."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from aiohttp import WSMsgType, web
from pypmi.bus import Bus, Message
from pypmi.config.mqtt import MqttSettings


@pytest.fixture
async def url(mosquitto) -> AsyncIterator[str]:
    broker = urlsplit(mosquitto.url)

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("mqtt",))
        await socket.prepare(request)
        reader, writer = await asyncio.open_connection(broker.hostname, broker.port)

        async def to_client() -> None:
            while data := await reader.read(30_000):
                await socket.send_bytes(data)
            await socket.close()

        sending = asyncio.create_task(to_client())
        try:
            async for frame in socket:
                if frame.type is WSMsgType.BINARY:
                    writer.write(frame.data)
        finally:
            sending.cancel()
            writer.close()
        return socket

    app = web.Application()
    app.router.add_get("/mqtt", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"ws://127.0.0.1:{runner.addresses[0][1]}/mqtt"
    await runner.cleanup()


async def test_messages_of_all_sizes_come_back(url):
    got: dict[str, Message] = {}
    bus = Bus(MqttSettings(url=url), "websocket")
    bus.subscribe("sizes/#", lambda message: got.update({message.topic: message}))
    running = asyncio.create_task(bus.run())
    try:
        async with asyncio.timeout(60):
            await bus.wait_connected()
            for size in range(0, 6000, 60):
                bus.publish_nowait(f"sizes/{size}", bytes(size), properties=(("size", str(size)),))
            await bus.publish("sizes/300000", bytes(300_000))
            while len(got) < 101:
                await asyncio.sleep(0.01)
        assert all(len(message.payload) == int(topic.removeprefix("sizes/")) for topic, message in got.items())
        assert got["sizes/60"].properties == (("size", "60"),)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
