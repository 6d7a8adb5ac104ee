"""The lines that the relay itself writes into a console."""

from pypmi.contract import utc_now


def marker(text: str) -> bytes:
    """A line of the relay's own, on a line by itself, in plain ASCII: `[pypmi 2026-01-31 12:00:00Z text]`."""
    plain = "".join(char if char.isascii() and char.isprintable() else "?" for char in text)
    return f"\r\n[pypmi {utc_now():%Y-%m-%d %H:%M:%S}Z {plain}]\r\n".encode()


def duration(seconds: float) -> str:
    """For people: `12 s`, `5 min`, `3 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
