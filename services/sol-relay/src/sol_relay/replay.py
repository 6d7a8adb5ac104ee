"""Answers to replay requests: pieces of the ring, up to what has been published."""

import asyncio
import base64
import logging

from pypmi.bus import Bus, BusError
from pypmi.contract import ConsoleReplay, ConsoleRequest

from sol_relay.output import Output

logger = logging.getLogger(__name__)

_PIECE = 16_384


async def answer(bus: Bus, topic: str, request: ConsoleRequest, output: Output) -> None:
    """Send what was asked for, in order, the last piece marked.

    The answer ends at what has been published when its last piece goes out: what a viewer gets live after that piece
    follows it without a hole, whether it sees offsets (MQTT 5) or not.
    """
    ring = output.ring
    if request.offset is not None and request.stream == output.stream:
        position, to_end = request.offset, False
    elif request.offset is not None:
        position, to_end = ring.start, False  # of an older run: all there is of this one
    else:
        position, to_end = output.sent - request.length, True
    position = min(max(position, ring.start), output.sent)
    limit = position + request.length
    while True:
        position = max(position, ring.start)
        end = output.sent if to_end else min(output.sent, limit)
        data = ring.read(position, min(_PIECE, max(0, end - position)))
        last = position + len(data) >= end
        piece = ConsoleReplay(
            id=request.id, stream=output.stream, offset=position, data=base64.b64encode(data), last=last
        )
        try:
            bus.publish_nowait(topic, piece.to_payload(), qos=0, correlation=request.id.encode())
        except BusError as error:
            logger.debug("replay given up: %s", error)
            return
        if last:
            return
        position += len(data)
        await asyncio.sleep(0)
