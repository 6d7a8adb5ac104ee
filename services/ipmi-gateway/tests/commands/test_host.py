"""What the host calls its network, as LAN parameters tell it."""

import ipaddress

from ipmi_gateway.commands.transport import LanParameter, parameter
from ipmi_gateway.controller.facts import LanFacts
from ipmi_gateway.host import host_network


def test_loopback() -> None:
    assert host_network("127.0.0.1") == ("127.0.0.1", "255.0.0.0", "0.0.0.0", bytes(6))


def test_an_address_that_no_interface_has() -> None:
    assert host_network("203.0.113.77") == ("203.0.113.77", "0.0.0.0", "0.0.0.0", bytes(6))


def test_whatever_it_finds_can_be_told() -> None:
    address, netmask, gateway, mac = host_network()
    for text in (address, netmask, gateway):
        ipaddress.IPv4Address(text)
    lan = LanFacts(address=address, netmask=netmask, gateway=gateway, mac=mac)
    assert parameter(lan, LanParameter.IP_ADDRESS, 0) == ipaddress.IPv4Address(address).packed
    assert len(parameter(lan, LanParameter.MAC_ADDRESS, 0)) == 6
