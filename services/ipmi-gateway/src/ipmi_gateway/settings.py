"""Every limit of the protocol core, with its default. Nothing else in the core is tunable."""

from dataclasses import dataclass, field

from ipmi_gateway.codes import LAN_CHANNEL, Privilege

MAX_KEY_LENGTH = 20
"""Octets of a password or of Kg (section 13.28)."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Limits on sessions, opened and half open. Times are seconds."""

    maximum: int = 20_000
    """Sessions at one time; Open Session is refused with 01h beyond."""
    maximum_per_user: int = 20_000
    """Sessions of one user at one time; RAKP 1 is refused with 01h beyond."""
    inactivity_timeout: float = 60.0
    """A session without a packet for so long is closed (section 6.12.15)."""
    half_open_maximum: int = 4096
    """Handshakes under way; beyond it the oldest one gives way."""
    half_open_timeout: float = 30.0
    """How long a handshake may take, and how long a repeated RAKP 3 is answered after it."""
    handshake_tries: int = 4
    """Different RAKP 1 messages within one handshake (a repeat of the same one is not counted)."""
    remembered_answers: int = 16
    """Answers kept per session for requests that are sent again; requests in work come on top."""
    remember_for: float = 10.0
    """How long: ipmitool gives up after ten seconds."""
    requests_in_work: int = 32
    """Requests of one session that wait for the bus; beyond it the answer is C0h."""


@dataclass(frozen=True, slots=True)
class LoginDelaySettings:
    """How failed logins slow down further ones from the same source as the same user. Times are seconds.

    The delay before RAKP 2 is `step` longer with each failure: nothing to a person who mistypes, 0.1 s after 500, 1 s
    after 5,000. It cannot lock anybody out for good, and touches neither other sources nor other users.
    """

    free: int = 5
    """Failures without a consequence."""
    step: float = 0.0002
    longest: float = 5.0
    """The most a login is held back; those that would have to wait longer are refused with 01h."""
    forget_after: float = 900.0
    """Without another failure for so long, all is forgotten."""
    maximum: int = 4096
    """(source, user) pairs remembered; beyond it the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class SourceLimitSettings:
    """Token bucket on packets outside a session, for each source address (IPv6: each /64)."""

    rate: float = 40_000.0
    """Packets per second in the long run: more than honest clients behind one address can have answered (some 10,000
    logins a second, three packets each, keep a core busy), and few enough that dropping the rest costs little."""
    burst: float = 40_000.0
    maximum: int = 4096
    """Sources remembered; beyond it the one that was quiet for longest is forgotten."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """All settings of the engine."""

    suites: tuple[int, ...] = (17, 3)
    """Cipher suite ids served, in the order of preference; only 3 and 17 exist here."""
    kg: bytes = field(default=b"", repr=False)
    """The BMC key, up to 20 octets. One that begins with 00h counts as none, as it does for ipmitool."""
    channel_privilege_limit: Privilege = Privilege.ADMINISTRATOR
    """Nobody gets above it."""
    channel: int = LAN_CHANNEL
    work_maximum: int = 1024
    """Requests of all sessions together that wait for the bus; beyond it the answer is C0h."""
    sessions: SessionSettings = SessionSettings()
    login_delay: LoginDelaySettings = LoginDelaySettings()
    source_limit: SourceLimitSettings = SourceLimitSettings()

    def __post_init__(self) -> None:
        """Raises ValueError on what could not work."""
        if not self.suites or len(set(self.suites)) != len(self.suites) or not set(self.suites) <= {3, 17}:
            raise ValueError("suites: 3 and 17 are served, each at most once")
        if len(self.kg) > MAX_KEY_LENGTH:
            raise ValueError(f"kg: {MAX_KEY_LENGTH} octets at most")
        if not Privilege.USER <= self.channel_privilege_limit <= Privilege.ADMINISTRATOR:
            raise ValueError("channel_privilege_limit: user, operator or administrator")

    @property
    def effective_kg(self) -> bytes | None:
        """The BMC key, or None when there is none."""
        return self.kg if self.kg and self.kg[0] else None
