"""What every service has in common: who it is, its place on the bus, its configuration and its state folder.

A service is an `App`: it is built with a `Service` (bus, topics, epoch, state folder ...) and runs until cancelled.
`process.run_service` does the rest.
"""

import asyncio
import logging
import socket
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from pypmi.bus import Bus, ClientIdTakenError, Message, Requests
from pypmi.config.fleet import Fleet
from pypmi.config.load import LoadedFleet
from pypmi.contract import (
    CONTRACT_VERSION,
    Availability,
    ContractError,
    ServiceInfo,
    ServiceKind,
    ServiceStats,
    TopicKind,
    Topics,
    new_id,
    utc_now,
)
from pypmi.homeassistant.discovery import Discovery
from pypmi.homeassistant.entities import service_object_name
from pypmi.homeassistant.services import service_components, service_device
from pypmi.metrics import make_registry

logger = logging.getLogger(__name__)


class App(Protocol):
    """The inside of a service."""

    async def run(self) -> None:
        """Serve until cancelled."""

    async def reload(self, loaded: LoadedFleet) -> None:
        """Take over a changed configuration, without touching what did not change."""

    def nodes(self) -> tuple[str, ...]:
        """Ids of the nodes served, for `services/<name>/info`."""

    def not_ready(self) -> str | None:
        """Why it can't serve yet; None when it can."""


class NameTakenError(Exception):
    """Another process runs under this service's name."""


class Service:
    """A service's place: who it is, its configuration, its bus and its state folder."""

    def __init__(self, kind: ServiceKind, name: str, loaded: LoadedFleet, state_dir: Path) -> None:
        self.kind = kind
        self.name = name
        self.loaded = loaded
        self.state_dir = state_dir
        self.epoch = new_id()
        self.started = utc_now()
        broker = loaded.fleet.broker_for(name)
        self.topics = Topics(broker.prefix)
        head = broker.prefix.replace("/", "-") or "pypmi"
        self._availability = self.topics.service(name, TopicKind.SERVICE_AVAILABILITY)
        self._info = self.topics.service(name, TopicKind.SERVICE_INFO)
        self._announced = False
        self._twin: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.bus = Bus(
            broker,
            f"{head}-{kind}-{name}",
            base=loaded.base,
            will=(self._availability, Availability.OFFLINE.value.encode()),
        )
        self.bus.subscribe(self._availability, self._on_own_availability)
        self.bus.subscribe(self.topics.services(TopicKind.SERVICE_INFO), self._on_info)
        self.requests = Requests(self.bus, self.topics, name)
        self._stats: ServiceStats | None = None
        self._announcement: ServiceInfo | None = None
        self.discovery = Discovery(self.bus, self.topics, loaded.fleet.homeassistant, package_version())
        self.discovery.announce(
            service_object_name(name, self.topics),
            service_device(name, kind, package_version(), socket.gethostname(), self.topics),
            {},
            service_components(name, kind, self.topics),
        )
        self.registry = make_registry(name, kind, package_version(), self.bus)
        """Prometheus metrics of this service."""
        self._set_available()

    @property
    def fleet(self) -> Fleet:
        """The configuration in force."""
        return self.loaded.fleet

    def announce(self, nodes: tuple[str, ...], url: str | None = None) -> None:
        """Say on the bus what this service is and which nodes it serves."""
        seen = self._announcement.contract_seen if self._announcement is not None else CONTRACT_VERSION
        info = ServiceInfo(
            kind=self.kind,
            version=package_version(),
            host=socket.gethostname()[:128],
            started=self.started,
            nodes=nodes,
            epoch=self.epoch,
            url=url,
            contract_seen=seen,
        )
        self._put_info(info)

    def _put_info(self, info: ServiceInfo) -> None:
        self._announcement = info
        self.bus.set_retained(self._info, info.to_payload())

    def say_stats(
        self, *, sessions: int | None = None, consoles: int | None = None, nodes_online: int | None = None
    ) -> None:
        """Publish the service's numbers, if they have changed."""
        stats = ServiceStats(sessions=sessions, consoles=consoles, nodes_online=nodes_online, epoch=self.epoch)
        if stats != self._stats:
            self._stats = stats
            self.bus.set_retained(self.topics.service(self.name, TopicKind.SERVICE_STATS), stats.to_payload(), qos=0)

    async def run_bus(self) -> None:
        """Keep the bus up until cancelled. Raises `NameTakenError` when there is a second one of this name."""
        bus = asyncio.ensure_future(self.bus.run())
        try:
            done, _ = await asyncio.wait({bus, self._twin}, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                await future
        except ClientIdTakenError as error:
            raise NameTakenError(str(error)) from None
        finally:
            bus.cancel()
            with suppress(asyncio.CancelledError, ClientIdTakenError):
                await bus

    def say_goodbye(self) -> None:
        """Tell the others at once that this service is leaving; without it they wait for the last will."""
        self.bus.set_retained(self._availability, Availability.OFFLINE.value.encode())

    def _set_available(self) -> None:
        self.bus.set_retained(self._availability, Availability.ONLINE.value.encode())

    def _on_own_availability(self, message: Message) -> None:
        # a will of an earlier connection that came late, or somebody else's mistake: we are here
        wanted = self.bus.retained(self._availability)
        if message.payload != wanted and wanted is not None:
            self.bus.set_retained(self._availability, wanted)

    def _on_info(self, message: Message) -> None:
        """Look at what services say of themselves: is one ahead of us, or of our name?"""
        try:
            info = ServiceInfo.from_payload(message.payload)
        except ContractError:
            return
        mine = self._announcement
        if mine is not None and info.contract > mine.contract_seen:
            logger.warning(
                "%s speaks contract %d, this is %d: an update is due", message.topic, info.contract, CONTRACT_VERSION
            )
            self._put_info(mine.model_copy(update={"contract_seen": info.contract}))
        if message.topic == self._info:
            self._look_for_twin(info)

    def _look_for_twin(self, info: ServiceInfo) -> None:
        """Notice a second process of this name: brokers do not always say that a client id was taken over.

        A foreign epoch counts only after ours was seen in the broker (an older process's retained message comes
        first), and only the older of the two processes gives way.
        """
        if info.epoch == self.epoch:
            self._announced = True
        elif self._announced and not self._twin.done() and (info.started, info.epoch) > (self.started, self.epoch):
            self._twin.set_exception(
                NameTakenError(
                    f"another {info.kind} named {self.name!r} started on {info.host}; this one stops."
                    " Give each service of the fleet a name of its own (--name)."
                )
            )


def package_version() -> str:
    """The version of pypmi that is installed."""
    try:
        return version("pypmi-shared")
    except PackageNotFoundError:
        return "unknown"
