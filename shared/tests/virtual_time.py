"""An event loop whose clock jumps to the next timer, so that minutes of patience pass in no time."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, lets the loop's clock jump."""

    loop: "JumpingLoop"
    grace: float

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout != 0 and self.grace:
            ready = super().select(self.grace)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("everything waits for something that will never come")
        self.loop.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time. `grace`: real seconds in which something that is on its way over loopback may arrive."""

    def __init__(self, grace: float = 0.0) -> None:
        selector = _JumpingSelector()
        selector.loop, selector.grace = self, grace
        self.now = 1000.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class VirtualLoop(JumpingLoop):
    """Without sockets; executor calls run at once, in the loop."""

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - handed on
            future.set_exception(error)
        return future


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]] | Awaitable[T]) -> T:
    """Run to the end in virtual time."""
    loop = VirtualLoop()
    try:
        coroutine = main() if callable(main) else main
        return loop.run_until_complete(coroutine)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        pending = asyncio.all_tasks(loop)
        if pending:
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()
