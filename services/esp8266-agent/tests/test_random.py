"""Presses under faults drawn at random: never two for one, the relay never stays closed, the status is right."""

import asyncio
import random

import pytest
from pypmi_simulator import Era, Network, SimulatedBoard

ROUNDS = 4
"""Presses on one board."""
COMMANDS = (b"im 0 0", b"it 0 0 on", b"it 0 0 off", b"ir 0 2")


async def _one(bench, fates, seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    sim = SimulatedBoard(rng.choice(list(Era)))
    sim.pc.powered = rng.random() < 0.5
    async with bench(sim, wired=True, connect_timeout=0.5, poll_interval=0.3) as it:
        await it.until(lambda: it.board._session is not None, "connected", 60)
        for _ in range(rounds):
            sim.pc.presses.clear()
            sim.faults.reply_delay = rng.choice([0.0, 0.0, 0.02, 0.2])
            if rng.random() < 0.6:
                it.wire.at(rng.choice(COMMANDS), rng.choice(fates))
            press = asyncio.create_task(it.try_press(rng.choice([0.2, 0.6, 1.3])))
            await asyncio.sleep(rng.random() * 1.2)
            match rng.choice(["reset", "reboot", "blackhole", "refuse", "cancel", "nothing", "nothing"]):
                case "reset":
                    it.wire.reset()
                case "reboot":
                    sim.reboot()
                case "blackhole":
                    sim.cut_network(Network.BLACKHOLE)
                case "refuse":
                    sim.cut_network(Network.REFUSE)
                case "cancel":
                    press.cancel()
            done = (await asyncio.gather(press, return_exceptions=True))[0]
            await it.until(lambda: it.at_rest, f"let go (seed {seed})", 3)
            assert done is None or isinstance(done, BaseException), seed
            certain = isinstance(done, Exception) and not getattr(done, "acted", True)
            assert len(it.presses) <= (0 if certain else 1), (seed, done, it.presses)
            assert done is not None or len(it.presses) == 1, (seed, it.presses)
            sim.faults.reply_delay = 0.0
            sim.restore_network()
            it.wire.at(b"never", fates[0])
            await it.until(lambda: it.board._session is not None, f"connected again (seed {seed})", 90)
            await asyncio.sleep(0.4)
            assert len(it.presses) <= 1, (seed, it.presses)
        await asyncio.sleep(0.5)
        assert it.at_rest, seed
        await it.until(lambda: it.listener.status[-1] is sim.pc.power_led(sim.now), f"status (seed {seed})", 20)


def test_random_faults(bench, fate, run_virtual) -> None:
    # 1664: the board restarts between a lost trigger and its repetition; 1131: just after the first trigger
    for seed in (*range(40), 1131, 1664):
        run_virtual(_one(bench, list(fate), seed, ROUNDS))


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_random_faults_10_000_times(bench, fate, run_virtual) -> None:
    for seed in range(10_000 // ROUNDS):
        run_virtual(_one(bench, list(fate), seed, ROUNDS))
