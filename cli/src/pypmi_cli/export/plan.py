"""What every export needs of fleet.yaml: which account, which nodes, and by which address and port each is reached."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pypmi.config.fleet import Fleet, NodeSettings, UserSettings
from pypmi.config.load import LoadedFleet
from pypmi.config.secrets import SecretError

from pypmi_cli.exits import Exit, ToolError

IPMI_PORT = 623
PLACEHOLDER = "PASSWORD"
_RANKS = ("callback", "user", "operator", "administrator")
_EVERYWHERE = {"0.0.0.0", "[::]", "::"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node answers to IPMI."""

    host: str
    """Without brackets."""
    port: int
    bridge: tuple[int, int] | None
    """Channel and target address behind the gateway; None: a port of the node's own."""

    @property
    def target(self) -> str:
        """`HOST:PORT` as FreeIPMI takes it, without the usual port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == IPMI_PORT else f"{host}:{self.port}"


@dataclass(slots=True)
class Plan:
    """A fleet as somebody else is to see it.

    Args:
        loaded: fleet.yaml.
        host: name or address by which the other side reaches the gateway; None: that of `gateway.listen`.
        user: the IPMI account to use; None: the first that has the privilege needed.
        secrets: write passwords; else a placeholder.
    """

    loaded: LoadedFleet
    host: str | None = None
    user: str | None = None
    secrets: bool = False
    notes: list[str] = field(default_factory=list)
    """What the operator should know: nodes left out and why."""

    @property
    def fleet(self) -> Fleet:
        """The fleet."""
        return self.loaded.fleet

    def account(self, least: str) -> UserSettings:
        """The account to use, of privilege `least` or more. The weakest that will do, in the order of fleet.yaml."""
        need = _RANKS.index(least)
        if self.user is not None:
            found = next((user for user in self.fleet.users if user.name == self.user), None)
            if found is None:
                raise ToolError(f"fleet.yaml has no IPMI account {self.user!r}", Exit.USAGE)
            if _RANKS.index(found.privilege) < need:
                raise ToolError(f"{found.name} has privilege {found.privilege}; {least} is needed", Exit.USAGE)
            return found
        able = [user for user in self.fleet.users if _RANKS.index(user.privilege) >= need]
        if not able:
            raise ToolError(f"fleet.yaml has no IPMI account with privilege {least} (users:)", Exit.USAGE)
        return min(able, key=lambda user: _RANKS.index(user.privilege))

    def password(self, account: UserSettings) -> str:
        """The account's password, or a placeholder. Raises `ToolError` when the secret can't be read."""
        if not self.secrets:
            self.note(f"{PLACEHOLDER} stands for the password of {account.name}; --secrets writes it")
            return PLACEHOLDER
        try:
            return account.password.read(self.loaded.base)
        except SecretError as error:
            raise ToolError(str(error), Exit.USAGE) from None

    def password_file(self, account: UserSettings) -> Path:
        """The file with the account's password. Raises `ToolError` when it is not in a file."""
        if account.password.file is None:
            raise ToolError(
                f"the password of {account.name} is not in a file; name one with --password-file", Exit.USAGE
            )
        return (self.loaded.base / account.password.file).resolve()

    def gateway(self) -> tuple[str, int]:
        """Host and port of the gateway. Raises `ToolError` when fleet.yaml alone does not tell."""
        host, port = _split(self.fleet.gateway.listen[0])
        if self.host is not None:
            return self.host, port
        if host in _EVERYWHERE:
            raise ToolError(
                "the gateway listens on every address; say --host NAME, as the other side calls it", Exit.USAGE
            )
        return host.strip("[]"), port

    def own_place(self, node: NodeSettings) -> Place | None:
        """The node's own address and port, if it has one."""
        if node.listen is None:
            return None
        host, port = _split(node.listen)
        return Place(self.gateway()[0] if host in _EVERYWHERE else host.strip("[]"), port, None)

    def bridged_place(self, node: NodeSettings) -> Place | None:
        """The node behind the gateway's address, if it has a target address."""
        if node.address is None:
            return None
        host, port = self.gateway()
        return Place(host, port, (node.channel, node.address))

    def nodes(
        self, account: UserSettings, place: Callable[[NodeSettings], Place | None], lacks: str
    ) -> list[tuple[NodeSettings, Place]]:
        """The nodes that the account reaches, each with its place; `lacks` says what one without a place wants."""
        found = []
        for node in self.fleet.nodes:
            where = place(node)
            if not account.may_reach(node.id):
                self.note(f"{node.id} is left out: {account.name} may not reach it")
            elif where is None:
                self.note(f"{node.id} is left out: {lacks}")
            else:
                found.append((node, where))
        return found

    def note(self, text: str) -> None:
        """Tell the operator, once."""
        if text not in self.notes:
            self.notes.append(text)

    def note_key(self) -> None:
        """The other side takes the BMC key in a place of its own."""
        if self.fleet.gateway.kg is not None:
            self.note("the gateway has a BMC key (gateway.kg), which is not written; give it to the other side by hand")


def _split(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host, int(port)
