"""Users: who may log in, how far they get, and which nodes they may reach."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Final

from ipmi_gateway.codes import Privilege
from ipmi_gateway.settings import MAX_KEY_LENGTH

MAX_NAME_LENGTH: Final = 16
MAX_USER_ID: Final = 63
"""User ids have six bits (section 22.26)."""


@dataclass(frozen=True, slots=True)
class User:
    """One account."""

    name: str
    """1 to 16 octets of UTF-8."""
    password: bytes = field(repr=False)
    """Up to 20 octets."""
    privilege: Privilege = Privilege.ADMINISTRATOR
    """The limit."""
    nodes: tuple[str, ...] | None = None
    """Patterns (as in shells: `rack1-*`) of the node ids that may be reached; None means all."""
    id: int = 2
    """1 to 63."""
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Raises ValueError on what cannot be an account."""
        if not 1 <= len(self.name.encode()) <= MAX_NAME_LENGTH or "\0" in self.name:
            raise ValueError(f"user name {self.name!r}: 1 to {MAX_NAME_LENGTH} octets, no NUL")
        if len(self.password) > MAX_KEY_LENGTH:
            raise ValueError(f"password of {self.name}: {MAX_KEY_LENGTH} octets at most")
        if not Privilege.CALLBACK <= self.privilege <= Privilege.ADMINISTRATOR:
            raise ValueError(f"privilege of {self.name}: callback, user, operator or administrator")
        if not 1 <= self.id <= MAX_USER_ID:
            raise ValueError(f"id of {self.name}: 1 to {MAX_USER_ID}")
        if self.nodes is not None:
            # Without any pattern only the empty text matches, which is nobody's node id.
            pattern = re.compile("|".join(translate(pattern) for pattern in self.nodes))
            object.__setattr__(self, "_pattern", pattern)

    def may_reach(self, node_id: str | None) -> bool:
        """Whether commands to this node are allowed; to the gateway itself (None) they always are."""
        return self._pattern is None or node_id is None or self._pattern.fullmatch(node_id) is not None


class Users:
    """All accounts. `replace` changes them while sessions are open."""

    def __init__(self, users: Iterable[User] = ()) -> None:
        self._by_name: dict[bytes, User] = {}
        self._by_id: dict[int, User] = {}
        self.replace(users)

    def replace(self, users: Iterable[User]) -> None:
        """Take these instead of the present ones. Raises ValueError, and changes nothing, if names or ids repeat.

        Open sessions of users that are gone or changed end when the engine's `users_changed` is called.
        """
        by_name: dict[bytes, User] = {}
        by_id: dict[int, User] = {}
        for user in users:
            name = user.name.encode()
            if name in by_name:
                raise ValueError(f"user {user.name!r} is there twice")
            if user.id in by_id:
                raise ValueError(f"user id {user.id} is there twice")
            by_name[name] = by_id[user.id] = user
        self._by_name, self._by_id = by_name, by_id

    def by_name(self, name: bytes) -> User | None:
        """The user with this name (as on the wire); None for the null user."""
        return self._by_name.get(name)

    def by_id(self, user_id: int) -> User | None:
        """The user with this id."""
        return self._by_id.get(user_id)

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[User]:
        return iter(self._by_name.values())
