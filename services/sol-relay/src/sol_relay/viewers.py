"""Who looks at a console, and who may type where only one may."""

_LEASE = 180.0
"""Seconds without a sign of life before a viewer is forgotten (contract, ConsoleAction.OPEN)."""
_WRITER_IDLE = 60.0
"""Seconds without a keystroke before somebody else may type."""
_MOST = 1000


class Viewers:
    """Leases of viewers, and the one writer. Times are monotonic seconds."""

    def __init__(self, *, one_writer: bool) -> None:
        self._one_writer = one_writer
        self._until: dict[str, float] = {}
        self._writer: str | None = None
        self._wrote_at = 0.0

    def __len__(self) -> int:
        return len(self._until)

    @property
    def writer(self) -> str | None:
        """Who holds the keyboard; None when nobody does, or when all may type."""
        return self._writer

    def open(self, viewer: str, now: float) -> None:
        """A viewer is there (again). Beyond 1000 they are not counted."""
        if viewer in self._until or len(self._until) < _MOST:
            self._until[viewer] = now + _LEASE

    def close(self, viewer: str) -> None:
        """A viewer has left."""
        self._until.pop(viewer, None)
        if viewer == self._writer:
            self._writer = None

    def may_write(self, viewer: str, now: float) -> bool:
        """Whether this viewer's input is taken; takes the keyboard if it is free. "" is somebody without a name."""
        if not self._one_writer:
            return True
        if self._writer not in {None, viewer} and now - self._wrote_at < _WRITER_IDLE:
            return False
        self._writer, self._wrote_at = viewer, now
        return True

    def expire(self, now: float) -> None:
        """Forget those whose lease is over."""
        for viewer in [viewer for viewer, until in self._until.items() if until < now]:
            self.close(viewer)
        if self._writer is not None and now - self._wrote_at >= _WRITER_IDLE:
            self._writer = None
