"""Many simulated boards in a process of their own: prints their ports, then one line of counts for each line read."""

import asyncio
import json
import sys

from pypmi_simulator import Era, SimulatedBoard


async def main(count: int) -> None:
    eras = tuple(Era)
    boards = [SimulatedBoard(eras[index % len(eras)], name=f"pc{index}", udp=False) for index in range(count)]
    for board in boards:
        await board.start()
    print(json.dumps([board.port for board in boards]), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        for board in boards:
            board.touch()
        counts = {
            "most_presses": max(len(board.pc.presses) for board in boards),
            "fewest_presses": min(len(board.pc.presses) for board in boards),
            "powered": sum(board.pc.powered for board in boards),
            "closed": sum(board.relay_closed for board in boards),
        }
        print(json.dumps(counts), flush=True)
    for board in boards:
        await board.stop()


asyncio.run(main(int(sys.argv[1])))
