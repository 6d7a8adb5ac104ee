"""The system event log (section 31): records of 16 octets, the oldest gone when it is full, kept in the store."""

import struct
from collections.abc import Callable

from ipmi_gateway.store import Store

RECORD_SIZE = 16
SYSTEM_EVENT = 0x02
"""Record type of section 32.1."""
EVM_REVISION = 0x04
"""Event message format of IPMI 1.5 and 2.0."""
OWN_GENERATOR = b"\xff\xff"
"""Stands in kept records for this controller, which is seen at different addresses."""
FIRST_RECORD, LAST_RECORD = 0x0000, 0xFFFF
UNSPECIFIED_TIME = 0xFFFFFFFF
TIMESTAMPED_OEM = range(0xC0, 0xE0)
UTC_OFFSET_UNSPECIFIED = 0x07FF


class EventLog:
    """The log of one controller. Record ids rise from 1 to FFFEh and begin again."""

    def __init__(self, store: Store, node: str, capacity: int, wall: Callable[[], float]) -> None:
        self.capacity = capacity
        self._store = store
        self._node = node
        self._wall = wall
        self._loaded: dict[int, bytes] | None = None
        self._next_id = 1
        self._time_shift = int(store.get(node, "sel.time") or b"0")
        self.overflow = bool(store.get(node, "sel.overflow"))
        self.reservation = 0
        """The valid reservation id; 0 when there is none."""
        self._last_reservation = 0
        self.erased_at = int(store.get(node, "sel.erased") or str(UNSPECIFIED_TIME))
        """When the log was cleared or a record deleted last, in SEL time."""

    @property
    def _records(self) -> dict[int, bytes]:
        """By record id, oldest first. Read from the store when first needed: most logs are never asked for."""
        if self._loaded is None:
            records = {struct.unpack_from("<H", record)[0]: record for record in self._store.load_sel(self._node)}
            self._loaded = records
            if records:
                self._next_id = next(reversed(records)) + 1
            while len(records) > self.capacity:
                self._drop(next(iter(records)))
        return self._loaded

    def __len__(self) -> int:
        return len(self._records)

    @property
    def added_at(self) -> int:
        """The time stamp of the newest record, `UNSPECIFIED_TIME` when there is none."""
        for record in reversed(self._records.values()):
            if record[2] == SYSTEM_EVENT or record[2] in TIMESTAMPED_OEM:
                return int(struct.unpack_from("<I", record, 3)[0])
        return UNSPECIFIED_TIME

    def time(self) -> int:
        """SEL time: seconds since 1970, as `set_time` has put it."""
        return int(self._wall()) + self._time_shift & 0xFFFFFFFF

    def set_time(self, seconds: int) -> None:
        """Set the SEL clock; the system's is left alone."""
        self._time_shift = seconds - int(self._wall())
        self._store.put(self._node, "sel.time", str(self._time_shift).encode() if self._time_shift else None)

    @property
    def utc_offset(self) -> int:
        """Minutes, -1440 to 1440, or 7FFh: unspecified."""
        kept = self._store.get(self._node, "sel.utc")
        return UTC_OFFSET_UNSPECIFIED if kept is None else int(kept)

    @utc_offset.setter
    def utc_offset(self, minutes: int) -> None:
        self._store.put(self._node, "sel.utc", str(minutes).encode())

    def reserve(self) -> int:
        """A new reservation, which ends the one before."""
        self._last_reservation = self._last_reservation % 0xFFFF + 1
        self.reservation = self._last_reservation
        return self.reservation

    def record(self, body: bytes, at: float | None = None) -> int:
        """Add a system event: `body` is what follows the time stamp (9 octets). `at`: when, if not now."""
        stamp = self.time() if at is None else int(at) + self._time_shift & 0xFFFFFFFF
        return self._append(struct.pack("<BI", SYSTEM_EVENT, stamp) + body)

    def add(self, record: bytes) -> int:
        """Add a record that a client gives whole; its id, and its time stamp where it has one, are ours."""
        kind = record[2]
        stamped = kind == SYSTEM_EVENT or kind in TIMESTAMPED_OEM
        return self._append(record[2:3] + (struct.pack("<I", self.time()) if stamped else record[3:7]) + record[7:])

    def _append(self, rest: bytes) -> int:
        records = self._records
        while len(records) >= self.capacity:
            self._drop(next(iter(records)))
            self._set_overflow(True)
        while not 1 <= self._next_id <= 0xFFFE or self._next_id in records:
            self._next_id = self._next_id + 1 if self._next_id < 0xFFFE else 1
        record_id = self._next_id
        self._next_id += 1
        record = struct.pack("<H", record_id) + rest
        records[record_id] = record
        self._store.add_sel(self._node, record_id, record)
        return record_id

    def find(self, record_id: int) -> tuple[bytes, int] | None:
        """The record (0000h: oldest, FFFFh: newest) and the next one's id (FFFFh: none); None when it is missing."""
        records = self._records
        if record_id in (FIRST_RECORD, LAST_RECORD):
            if not records:
                return None
            record_id = next(iter(records)) if record_id == FIRST_RECORD else next(reversed(records))
        record = records.get(record_id)
        if record is None:
            return None
        return record, self._after(record_id)

    def _after(self, record_id: int) -> int:
        ids = iter(self._records)
        for present in ids:
            if present == record_id:
                break
        return next(ids, LAST_RECORD)

    def delete(self, record_id: int) -> int | None:
        """Delete a record (0000h and FFFFh as in `find`); returns its id, None when it is missing."""
        found = self.find(record_id)
        if found is None:
            return None
        (number,) = struct.unpack_from("<H", found[0])
        self._drop(number)
        self._erased()
        return int(number)

    def clear(self) -> None:
        """Delete all records."""
        self._loaded = {}
        self._next_id = 1
        self._store.clear_sel(self._node)
        self._set_overflow(False)
        self._erased()

    def _drop(self, record_id: int) -> None:
        del self._records[record_id]
        self._store.delete_sel(self._node, record_id)

    def _erased(self) -> None:
        self.erased_at = self.time()
        self._store.put(self._node, "sel.erased", str(self.erased_at).encode())

    def _set_overflow(self, overflow: bool) -> None:
        if overflow != self.overflow:
            self.overflow = overflow
            self._store.put(self._node, "sel.overflow", b"1" if overflow else None)
