"""Send Message: single and dual bridging, octet by octet (sections 6.13, 7.2 and 22.7)."""

import time
from collections.abc import Iterable

from rmcp_client import CONSOLE, IPMI, OPERATOR, USER, Answer, RmcpClient, message

from .bmc import Bmc, bridge_message, bridged
from .case import Group, case
from .codes import (
    APP,
    BAD_LENGTH,
    BAD_VALUE,
    CHASSIS,
    CONTROL,
    DEVICE_GUID,
    GET_DEVICE_ID,
    INVALID_COMMAND,
    LENGTH,
    ON,
    PRIVILEGE,
    SEND_MESSAGE,
    SENSOR,
    SET_BOOT,
    STATUS,
    STORAGE,
    UNAVAILABLE,
)
from .quiet import ignored

ASKED = {
    "Get Device ID": (APP, GET_DEVICE_ID, b""),
    "Get Self Test Results": (APP, 0x04, b""),
    "Get Device GUID": (APP, DEVICE_GUID, b""),
    "Get System GUID": (APP, 0x37, b""),
    "Get Watchdog Timer": (APP, 0x25, b""),
    "Get BMC Global Enables": (APP, 0x2F, b""),
    "Get ACPI Power State": (APP, 0x07, b""),
    "Get Channel Authentication Capabilities": (APP, 0x38, b"\x8e\x04"),
    "Get Channel Cipher Suites": (APP, 0x54, b"\x0e\x00\x80"),
    "Get Channel Info": (APP, 0x42, b"\x0e"),
    "Get Channel Access": (APP, 0x41, b"\x0e\x40"),
    "Get User Name": (APP, 0x46, b"\x02"),
    "Get User Access": (APP, 0x44, b"\x0e\x02"),
    "Get Channel Payload Support": (APP, 0x4E, b"\x0e"),
    "Get Session Info": (APP, 0x3D, b"\x00"),
    "Get Chassis Capabilities": (CHASSIS, 0x00, b""),
    "Get Chassis Status": (CHASSIS, STATUS, b""),
    "Get System Restart Cause": (CHASSIS, 0x07, b""),
    "Get System Boot Options": (CHASSIS, 0x09, b"\x05\x00\x00"),
    "Get POH Counter": (CHASSIS, 0x0F, b""),
    "Get SDR Repository Info": (STORAGE, 0x20, b""),
    "Reserve SDR Repository": (STORAGE, 0x22, b""),
    "Get SDR": (STORAGE, 0x23, b"\0\0\0\0\0\xff"),
    "Get SEL Info": (STORAGE, 0x40, b""),
    "Get SEL Time": (STORAGE, 0x48, b""),
    "Get FRU Inventory Area Info": (STORAGE, 0x10, b"\0"),
    "Read FRU Data": (STORAGE, 0x11, b"\0\0\0\x08"),
    "Get LAN Configuration Parameters": (0x0C, 0x02, b"\x0e\x03\0\0"),
    "Get SOL Configuration Parameters": (0x0C, 0x22, b"\x0e\x01\0\0"),
    "Get PEF Capabilities": (SENSOR, 0x10, b""),
    "DCMI Get Capabilities": (0x2C, 0x01, b"\xdc\x01"),
}
"""Commands that only read."""


def collect(client: RmcpClient, count: int = 2) -> list[Answer]:
    answers = []
    for _ in range(count):
        answer = client.receive_answer()
        if answer is None:
            break
        answers.append(answer)
    return answers


def send(client: RmcpClient, raw: bytes, count: int = 2) -> list[Answer]:
    client.send(client.seal(IPMI, raw))
    return collect(client, count)


def check_octets(
    answers: list[Answer], *, target: int, netfn: int, command: int, sequence: int, rq_address: int = CONSOLE,
    lun: int = 0, rq_lun: int = 0, inner_sequence: int | None = None,
) -> None:  # fmt: skip
    """A and B: their order, and every octet but B's data."""
    assert len(answers) == 2, f"{len(answers)} answers"
    first, second = answers
    assert first.raw == message_response(APP, SEND_MESSAGE, b"\0", 0x20, sequence), f"A: {first.raw.hex()}"
    # The clients take both: the requester's address as it was given, and the address of the BMC that passed it on.
    assert second.rq_address in {rq_address, 0x20}, f"B: {second.raw.hex()}"
    seen = (second.netfn, second.rq_lun, second.rs_address, second.sequence, second.rs_lun)
    wanted_sequence = sequence if inner_sequence is None else inner_sequence
    wanted = (netfn | 1, rq_lun, target, wanted_sequence, lun)
    assert seen == wanted, f"B: {second.raw.hex()}"
    assert second.command == command, f"B: {second.raw.hex()}"


def message_response(netfn: int, command: int, data: bytes, rs_address: int, sequence: int) -> bytes:
    """A response to the console: built as the request with the addresses exchanged."""
    return message(netfn | 1, command, data, rs_address=CONSOLE, rq_address=rs_address, sequence=sequence)


@case(Group.BRIDGING, needs="bridging", each=ASKED)
def answered(bmc: Bmc, item: tuple[int, int, bytes]) -> None:
    """A bridged command: A first, exactly 8 octets, then B with the target's address; code 00h."""
    assert bmc.target is not None
    client = bmc.console().client
    client.rq_sequence = 5
    answers = send(client, bridge_message(bmc.channel, bmc.target, item[0], item[1], item[2], sequence=9))
    check_octets(answers, target=bmc.target, netfn=item[0], command=item[1], sequence=9)
    assert answers[1].code == 0, f"completion code {answers[1].code:02x}h"
    assert not client.drain(0.02), "a third packet"


@case(Group.BRIDGING, needs="bridging", each={f"{value:02x}": value for value in (0x81, 0x20, 0x8F, 0x00, 0xFF)})
def requesters_address(bmc: Bmc, rq_address: int) -> None:
    """B goes to the inner message's own requester address, whatever it is."""
    assert bmc.target is not None
    client = bmc.login()
    raw = bridge_message(bmc.channel, bmc.target, APP, GET_DEVICE_ID, sequence=3, rq_address=rq_address)
    check_octets(
        send(client, raw), target=bmc.target, netfn=APP, command=GET_DEVICE_ID, sequence=3, rq_address=rq_address
    )


@case(Group.BRIDGING, needs="bridging", each={str(value): value for value in (0, 1, 31, 62, 63)})
def sequence_numbers(bmc: Bmc, sequence: int) -> None:
    """A has the outer and B the inner sequence number."""
    assert bmc.target is not None
    client = bmc.login()
    raw = bridge_message(bmc.channel, bmc.target, APP, GET_DEVICE_ID, sequence=sequence)
    check_octets(send(client, raw), target=bmc.target, netfn=APP, command=GET_DEVICE_ID, sequence=sequence)


@case(Group.BRIDGING, needs="bridging")
def sequence_numbers_differ(bmc: Bmc) -> None:
    """Inner and outer sequence numbers need not be the same."""
    assert bmc.target is not None
    client = bmc.login()
    raw = bridge_message(bmc.channel, bmc.target, APP, GET_DEVICE_ID, sequence=7, inner_sequence=40)
    check_octets(send(client, raw), target=bmc.target, netfn=APP, command=GET_DEVICE_ID, sequence=7, inner_sequence=40)


@case(Group.BRIDGING, needs="bridging", each={"1": 1, "2": 2, "3": 3})
def requesters_lun(bmc: Bmc, lun: int) -> None:
    """B has the inner message's LUNs exchanged."""
    assert bmc.target is not None
    client = bmc.login()
    raw = bridge_message(bmc.channel, bmc.target, APP, GET_DEVICE_ID, sequence=3, rq_lun=lun)
    check_octets(send(client, raw), target=bmc.target, netfn=APP, command=GET_DEVICE_ID, sequence=3, rq_lun=lun)


@case(Group.BRIDGING, needs="bridging")
def octets_of_a_known_exchange(bmc: Bmc) -> None:
    """`power status` as ipmitool sends it: A `81 1c 63 20 18 34 00 cs`, and B with checksums."""
    assert bmc.target is not None
    client = bmc.login()
    raw = bridge_message(bmc.channel, bmc.target, CHASSIS, STATUS, sequence=6)
    if (bmc.channel, bmc.target) == (0, 0x30):
        assert raw.hex() == "2018c881183440" + "3000d081180166" + "f3", raw.hex()
    first, second = send(client, raw)
    assert first.raw.hex() == "811c632018340094", first.raw.hex()
    head = bytes((0x81, 0x04))
    assert second.raw[:6] == head + bytes((-sum(head) & 0xFF, bmc.target, 6 << 2, STATUS)), second.raw.hex()
    assert sum(second.raw[3:]) & 0xFF == 0


# --- refusals ---


def refusal(bmc: Bmc, client: RmcpClient, channel: int, target: int, netfn: int = APP, command: int = 1) -> int:
    """The code of A, which must be the only packet, and at once."""
    started = time.monotonic()
    answers = send(client, bridge_message(channel, target, netfn, command, sequence=11), 1)
    seconds = time.monotonic() - started
    assert answers, "no answer"
    assert seconds < 1, f"the refusal took {seconds:.1f} s"
    assert (answers[0].command, answers[0].sequence) == (SEND_MESSAGE, 11), answers[0].raw.hex()
    assert not client.drain(0.05), "a second packet"
    return answers[0].code


@case(Group.BRIDGING, needs="bridging")
def unknown_target(bmc: Bmc) -> None:
    """An unknown target is refused in A with D3h, at once, and nothing follows."""
    code = refusal(bmc, bmc.login(), *bmc.absent)
    assert code == UNAVAILABLE, f"completion code {code:02x}h"


@case(Group.BRIDGING, needs="bridging", each={str(channel): channel for channel in (1, 2, 5, 11, 12, 13, 15)})
def unknown_channel(bmc: Bmc, channel: int) -> None:
    """A target on a channel that has none is refused in A with D3h (or CCh), at once."""
    if bmc.far is not None and channel == bmc.far[0]:
        return
    assert bmc.target is not None
    code = refusal(bmc, bmc.login(), channel, bmc.target)
    assert code in {UNAVAILABLE, *BAD_VALUE}, f"completion code {code:02x}h"


@case(Group.BRIDGING, needs="bridging")
def target_zero(bmc: Bmc) -> None:
    """Address 0 is nobody."""
    code = refusal(bmc, bmc.login(), bmc.channel, 0)
    assert code in {UNAVAILABLE, *BAD_VALUE}, f"completion code {code:02x}h"


@case(Group.BRIDGING, needs="bridging")
def target_20h(bmc: Bmc) -> None:
    """Address 20h is the gateway itself."""
    client = bmc.login()
    own = client.request(APP, DEVICE_GUID).data
    answers = bridged(client, bmc.channel, 0x20, APP, DEVICE_GUID)
    assert answers[-1].code == 0, f"completion code {answers[-1].code:02x}h"
    assert answers[-1].data == own, "another controller"


@case(Group.BRIDGING, needs="bridging")
def targets_are_controllers_of_their_own(bmc: Bmc) -> None:
    """The target's GUID is not the gateway's."""
    assert bmc.target is not None
    client = bmc.login()
    own = client.request(APP, DEVICE_GUID).data
    assert bridged(client, bmc.channel, bmc.target, APP, DEVICE_GUID)[-1].data != own


@case(Group.BRIDGING, needs="bridging other")
def two_targets(bmc: Bmc) -> None:
    """Two targets in one session are told apart."""
    assert bmc.target is not None
    assert bmc.other is not None
    client = bmc.login()
    first = bridged(client, bmc.channel, bmc.target, APP, DEVICE_GUID)[-1].data
    second = bridged(client, *bmc.other, APP, DEVICE_GUID)[-1].data
    assert first != second


@case(Group.BRIDGING, needs="bridging other")
def answers_in_order(bmc: Bmc) -> None:
    """Requests to two targets, sent without waiting: each gets its A and its B, A before B."""
    assert bmc.target is not None
    assert bmc.other is not None
    client = bmc.login()
    places = [(bmc.channel, bmc.target), bmc.other] * 4
    for sequence, place in enumerate(places, start=1):
        client.send(client.seal(IPMI, bridge_message(*place, APP, GET_DEVICE_ID, sequence=sequence)))
    answers = collect(client, 2 * len(places))
    assert len(answers) == 2 * len(places), f"{len(answers)} answers"
    for sequence, place in enumerate(places, start=1):
        mine = [answer for answer in answers if answer.sequence == sequence]
        check_octets(mine, target=place[1], netfn=APP, command=GET_DEVICE_ID, sequence=sequence)


@case(Group.BRIDGING, needs="bridging far")
def far_channel(bmc: Bmc) -> None:
    """A target on another channel is reached by that channel's number, and only by it."""
    assert bmc.far is not None
    client = bmc.login()
    assert bridged(client, *bmc.far, APP, GET_DEVICE_ID)[-1].code == 0
    near = bridged(client, bmc.channel, bmc.target or 1, APP, DEVICE_GUID)[-1].data
    assert bridged(client, *bmc.far, APP, DEVICE_GUID)[-1].data != near


@case(Group.BRIDGING, needs="bridging odd")
def odd_address(bmc: Bmc) -> None:
    """Odd addresses are addresses too."""
    assert bmc.odd is not None
    client = bmc.login()
    raw = bridge_message(*bmc.odd, APP, GET_DEVICE_ID, sequence=12)
    check_octets(send(client, raw), target=bmc.odd[1], netfn=APP, command=GET_DEVICE_ID, sequence=12)


@case(Group.BRIDGING, needs="bridging")
def unknown_command_behind(bmc: Bmc) -> None:
    """An unknown command is refused by the target: A 00h, B C1h."""
    assert bmc.target is not None
    answers = bridged(bmc.login(), bmc.channel, bmc.target, APP, 0xF0)
    assert [answer.code for answer in answers] == [0, INVALID_COMMAND], [hex(answer.code) for answer in answers]


PROBES = {"PICMG": (0x2C, 0x00, b"\x00"), "HPM": (0x2C, 0x3E, b"\x00"), "VITA": (0x2C, 0x00, b"\x03")}


@case(Group.BRIDGING, needs="bridging", each=PROBES)
def ipmitools_probes(bmc: Bmc, item: tuple[int, int, bytes]) -> None:
    """What ipmitool asks the gateway before it bridges is refused with C1h, at once."""
    client = bmc.console().client
    started = time.monotonic()
    answer = client.request(*item)
    assert answer.code == INVALID_COMMAND, f"completion code {answer.code:02x}h"
    assert time.monotonic() - started < 0.5


# --- malformed ---


def _spoil(raw: bytes, place: int) -> bytes:
    """The message with one octet of its inner message changed, and the outer checksum right again."""
    body = bytearray(raw)
    body[place] ^= 0x40
    body[-1] = -sum(body[3:-1]) & 0xFF
    return bytes(body)


@case(Group.BRIDGING, needs="bridging", each={"first checksum": 9, "second checksum": -2, "command": -3})
def inner_checksums(bmc: Bmc, place: int) -> None:
    """Both checksums of the inner message are verified."""
    assert bmc.target is not None
    client = bmc.login()
    raw = bridge_message(bmc.channel, bmc.target, APP, GET_DEVICE_ID, sequence=13)
    answers = send(client, _spoil(raw, place), 1)
    if answers:
        assert answers[0].command == SEND_MESSAGE, answers[0].raw.hex()
        assert answers[0].code != 0, "accepted"
    assert not client.drain(0.05), "a second packet"


@case(Group.BRIDGING, needs="bridging", each={"first": "bad_first", "second": "bad_second"})
def outer_checksums(bmc: Bmc, which: str) -> None:
    """A wrong checksum of the outer message: dropped without a word."""
    assert bmc.target is not None
    client = bmc.login()
    inner = message(APP, GET_DEVICE_ID, rs_address=bmc.target, sequence=3)
    data = bytes((0x40 | bmc.channel,)) + inner
    ignored(client, client.seal(IPMI, message(APP, SEND_MESSAGE, data, sequence=3, **{which: True})))


@case(Group.BRIDGING, needs="bridging")
def inner_cut_short(bmc: Bmc) -> None:
    """A Send Message whose inner message is cut off anywhere is refused, and reaches nobody."""
    assert bmc.target is not None
    client = bmc.login()
    inner = message(APP, GET_DEVICE_ID, rs_address=bmc.target, sequence=3)
    for size in range(len(inner)):
        raw = message(APP, SEND_MESSAGE, bytes((0x40 | bmc.channel,)) + inner[:size], sequence=size)
        answers = send(client, raw, 1)
        assert answers, f"{size} octets: no answer"
        assert answers[0].command == SEND_MESSAGE
        assert answers[0].code in BAD_LENGTH | BAD_VALUE, f"{size} octets: {answers[0].code:02x}h"
    assert not client.drain(0.05)


@case(Group.BRIDGING, needs="bridging")
def empty_send_message(bmc: Bmc) -> None:
    """Send Message without data, or with a channel only, is answered C7h."""
    client = bmc.login()
    for data in (b"", bytes((0x40 | bmc.channel,))):
        code = client.request(APP, SEND_MESSAGE, data).code
        assert code in {LENGTH, *BAD_VALUE}, f"completion code {code:02x}h"


@case(Group.BRIDGING, needs="bridging")
def inner_response(bmc: Bmc) -> None:
    """A response inside Send Message is not answered by the target."""
    assert bmc.target is not None
    client = bmc.login()
    answers = send(client, bridge_message(bmc.channel, bmc.target, APP | 1, GET_DEVICE_ID, b"\0", sequence=4), 1)
    assert not answers or answers[0].command == SEND_MESSAGE
    assert not client.drain(0.05), "a second packet"


# --- privilege ---


@case(Group.BRIDGING, needs="bridging", each={"user": USER, "operator": OPERATOR})
def privilege_of_the_inner_command(bmc: Bmc, level: int) -> None:
    """The inner command's privilege is checked: D4h, and nothing happens."""
    assert bmc.target is not None
    before = bmc.presses() if bmc.presses else 0
    client = bmc.console(level=level).client
    refused = {
        USER: [
            (CHASSIS, CONTROL, bytes((ON,))),
            (CHASSIS, SET_BOOT, b"\x05\0\0\0\0\0"),
            (STORAGE, 0x47, b"\0\0CLR\xaa"),
        ],
        OPERATOR: [(APP, 0x02, b""), (APP, 0x03, b""), (APP, 0x45, bytes(17))],
    }
    for netfn, command, data in refused[level]:
        code = bridged(client, bmc.channel, bmc.target, netfn, command, data)[-1].code
        assert code == PRIVILEGE, f"{netfn:02x}h/{command:02x}h: {code:02x}h"
    if bmc.presses:
        assert bmc.presses() == before, "the button was pressed"


@case(Group.BRIDGING, needs="bridging operator")
def operator_bridges(bmc: Bmc) -> None:
    """An operator's account bridges, without being raised to administrator."""
    assert bmc.target is not None
    client = bmc.console(bmc.operator).client
    assert bridged(client, bmc.channel, bmc.target, CHASSIS, STATUS)[-1].code == 0


@case(Group.BRIDGING, needs="bridging limited")
def nodes_of_a_user(bmc: Bmc) -> None:
    """A user who may not reach a node is refused with D4h."""
    assert bmc.target is not None
    client = bmc.console(bmc.limited).client
    for netfn, command in ((APP, GET_DEVICE_ID), (CHASSIS, STATUS)):
        answers = bridged(client, bmc.channel, bmc.target, netfn, command)
        assert answers[-1].code == PRIVILEGE, f"completion code {answers[-1].code:02x}h"


@case(Group.BRIDGING, needs="bridging limited other")
def other_nodes_of_that_user(bmc: Bmc) -> None:
    """The same user reaches the nodes that are named."""
    assert bmc.other is not None
    client = bmc.console(bmc.limited).client
    assert bridged(client, *bmc.other, CHASSIS, STATUS)[-1].code == 0


@case(Group.BRIDGING, needs="bridging limited", each={"dual": 1})
def no_way_round(bmc: Bmc, _: int) -> None:
    """Dual bridging is no way round the user's list of nodes."""
    assert bmc.target is not None
    client = bmc.console(bmc.limited).client
    answers = dual(client, bmc, (0, 0x20), (bmc.channel, bmc.target), CHASSIS, STATUS)
    assert answers[-1].code == PRIVILEGE, f"completion code {answers[-1].code:02x}h"


# --- repeats ---


@case(Group.BRIDGING, needs="bridging")
def repeat_is_answered_again(bmc: Bmc) -> None:
    """A bridged request sent again gets both answers again, and is not done again; never CFh."""
    assert bmc.target is not None
    client = bmc.login()
    raw = bridge_message(bmc.channel, bmc.target, STORAGE, 0x22, sequence=17)
    first = send(client, raw)
    assert len(first) == 2
    for _ in range(3):
        again = send(client, raw)
        assert [answer.raw for answer in again] == [answer.raw for answer in first], "another answer"


@case(Group.BRIDGING, needs="bridging other")
def same_request_to_another_target_is_new(bmc: Bmc) -> None:
    """The same rqSeq, command and data to another target is a new request."""
    assert bmc.target is not None
    assert bmc.other is not None
    client = bmc.login()
    first = send(client, bridge_message(bmc.channel, bmc.target, APP, DEVICE_GUID, sequence=18))
    second = send(client, bridge_message(*bmc.other, APP, DEVICE_GUID, sequence=18))
    assert first[-1].data != second[-1].data, "the first one's answer"


@case(Group.BRIDGING, needs="bridging")
def same_sequence_other_command_is_new(bmc: Bmc) -> None:
    """The same rqSeq with another inner command or other data is a new request."""
    assert bmc.target is not None
    client = bmc.login()
    for command, size in ((GET_DEVICE_ID, None), (DEVICE_GUID, 16), (0x04, 2)):
        answers = send(client, bridge_message(bmc.channel, bmc.target, APP, command, sequence=19))
        assert answers[-1].command == command, answers[-1].raw.hex()
        assert size is None or len(answers[-1].data) == size


# --- dual ---


def dual_message(
    transit: tuple[int, int], place: tuple[int, int], netfn: int, command: int, data: bytes = b"", *, sequence: int
) -> bytes:
    """Dual bridging as lanplus builds it: the inner requester is 20h."""
    raw = message(netfn, command, data, rs_address=place[1], rq_address=0x20, sequence=sequence)
    raw = message(
        APP, SEND_MESSAGE, bytes((0x40 | place[0],)) + raw, rs_address=transit[1], rq_address=0x20, sequence=sequence
    )
    return message(APP, SEND_MESSAGE, bytes((0x40 | transit[0],)) + raw, sequence=sequence)


def dual(
    client: RmcpClient, bmc: Bmc, transit: tuple[int, int], place: tuple[int, int], netfn: int, command: int,
    data: bytes = b"",
) -> list[Answer]:  # fmt: skip
    """The answers until the first that refuses."""
    sequence = client._next_rq()
    client.send(client.seal(IPMI, dual_message(transit, place, netfn, command, data, sequence=sequence)))
    answers: list[Answer] = []
    for _ in range(3):
        answer = client.receive_answer()
        if answer is None:
            break
        answers.append(answer)
        if answer.code and answer.command == SEND_MESSAGE:
            break
    assert answers, "no answer"
    return answers


@case(Group.BRIDGING, needs="bridging dual other", each={"Get Device ID": (APP, GET_DEVICE_ID),
                                                         "Get Chassis Status": (CHASSIS, STATUS)})  # fmt: skip
def dual_bridging(bmc: Bmc, item: tuple[int, int]) -> None:
    """Dual bridging: A, then a second 34h/00h from the transit address, then B."""
    assert bmc.target is not None
    assert bmc.other is not None
    client = bmc.login()
    answers = dual(client, bmc, bmc.other, (bmc.channel, bmc.target), *item)
    assert [answer.command for answer in answers] == [SEND_MESSAGE, SEND_MESSAGE, item[1]]
    assert [answer.code for answer in answers] == [0, 0, 0]
    assert [answer.rs_address for answer in answers] == [0x20, bmc.other[1], bmc.target]


@case(Group.BRIDGING, needs="bridging dual")
def dual_over_20h(bmc: Bmc) -> None:
    """A transit address of 20h is the gateway itself."""
    assert bmc.target is not None
    answers = dual(bmc.login(), bmc, (0, 0x20), (bmc.channel, bmc.target), APP, GET_DEVICE_ID)
    assert answers[-1].code == 0
    assert answers[-1].rs_address == bmc.target


@case(Group.BRIDGING, needs="bridging dual")
def dual_unknown_transit(bmc: Bmc) -> None:
    """An unknown transit is refused in A with D3h."""
    assert bmc.target is not None
    answers = dual(bmc.login(), bmc, bmc.absent, (bmc.channel, bmc.target), APP, GET_DEVICE_ID)
    assert [answer.code for answer in answers] == [UNAVAILABLE]


@case(Group.BRIDGING, needs="bridging dual other")
def dual_unknown_target(bmc: Bmc) -> None:
    """An unknown target behind a transit is refused with D3h, by the transit."""
    assert bmc.other is not None
    answers = dual(bmc.login(), bmc, bmc.other, bmc.absent, APP, GET_DEVICE_ID)
    assert answers[-1].code == UNAVAILABLE, f"completion code {answers[-1].code:02x}h"


@case(Group.BRIDGING, needs="bridging dual")
def three_levels(bmc: Bmc) -> None:
    """Three Send Messages in one another are refused."""
    assert bmc.target is not None
    client = bmc.login()
    raw = message(APP, GET_DEVICE_ID, rs_address=bmc.target, sequence=3)
    for _ in range(2):
        raw = message(APP, SEND_MESSAGE, b"\x40" + raw, rs_address=bmc.target, sequence=3)
    client.timeout = 0.5
    answers = send(client, message(APP, SEND_MESSAGE, b"\x40" + raw, sequence=3), 4)
    assert answers, "no answer"
    assert any(answer.code for answer in answers), "accepted"


# --- the session's own commands ---


@case(Group.BRIDGING, needs="bridging")
def raising_before_bridging(bmc: Bmc) -> None:
    """ipmitool's order: Set Session Privilege, probes and Get Device ID un-bridged, then bridged commands."""
    assert bmc.target is not None
    client = bmc.login()
    assert client.set_privilege(4).code == 0
    assert client.request(0x2C, 0x3E, b"\0").code == INVALID_COMMAND
    assert client.request(APP, GET_DEVICE_ID).code == 0
    assert client.request(0x2C, 0x00, b"\0").code == INVALID_COMMAND
    assert bridged(client, bmc.channel, bmc.target, CHASSIS, STATUS)[-1].code == 0
    assert client.close_session().code == 0


@case(Group.BRIDGING, needs="bridging", each={"3": 3, "17": 17})
def in_each_suite(bmc: Bmc, suite: int) -> None:
    """Bridging works in each cipher suite."""
    assert bmc.target is not None
    if suite in bmc.suites:
        assert bridged(bmc.login(suite=suite), bmc.channel, bmc.target, APP, GET_DEVICE_ID)[-1].code == 0


@case(Group.BRIDGING, needs="bridging")
def all_addresses(bmc: Bmc) -> None:
    """Every address of a channel is answered at once: by its target, or with a refusal."""
    client = bmc.login()
    started = time.monotonic()
    present = []
    for address in range(256):
        answers = bridged(client, bmc.channel, address, APP, GET_DEVICE_ID)
        assert answers[-1].code == 0 or answers[-1].code in {UNAVAILABLE, *BAD_VALUE}, f"{address:02x}h"
        if answers[-1].code == 0:
            present.append(address)
    seconds = time.monotonic() - started
    assert seconds < 10, f"{seconds:.1f} s"
    assert set(targets(bmc)) | {0x20} <= set(present), f"{present} answer"


def targets(bmc: Bmc) -> Iterable[int]:
    """The known addresses on the channel."""
    assert bmc.target is not None
    yield bmc.target
    if bmc.other is not None and bmc.other[0] == bmc.channel:
        yield bmc.other[1]


TOOLS = {
    "mc info": "Device ID",
    "power status": "Chassis Power is",
    "chassis status": "System Power",
    "mc guid": "GUID",
    "sel info": "Entries",
    "sdr list": "ok",
}


@case(Group.BRIDGING, needs="bridging", each=TOOLS)
def ipmitool_single(bmc: Bmc, text: str) -> None:
    """ipmitool -b -t: the command works on the target."""
    words = next(words for words, shown in TOOLS.items() if shown == text)
    said = bmc.ipmitool(*words.split())
    assert said.code == 0, said.output
    assert text in said.output, said.output


@case(Group.BRIDGING, needs="bridging dual other", each={"mc info": "Device ID", "power status": "Chassis Power is"})
def ipmitool_dual(bmc: Bmc, text: str) -> None:
    """ipmitool -B -T -b -t: the command works on the target."""
    words = {"Device ID": ("mc", "info"), "Chassis Power is": ("power", "status")}[text]
    assert bmc.target is not None
    assert bmc.other is not None
    options = ("-B", str(bmc.other[0]), "-T", hex(bmc.other[1]), "-b", str(bmc.channel), "-t", hex(bmc.target))
    said = bmc.ipmitool(*words, options=options, bridged=False)
    assert said.code == 0, said.output
    assert text in said.output, said.output


@case(Group.BRIDGING, needs="bridging")
def ipmitool_unknown_target(bmc: Bmc) -> None:
    """ipmitool says what is wrong with an unknown target, within a second or two."""
    options = ("-b", str(bmc.absent[0]), "-t", hex(bmc.absent[1]))
    said = bmc.ipmitool("power", "status", options=options, bridged=False)
    assert said.code != 0
    assert "Destination unavailable" in said.output, said.output
    assert said.seconds < 3, f"{said.seconds:.1f} s"


@case(Group.BRIDGING, needs="bridging operator")
def ipmitool_as_operator(bmc: Bmc) -> None:
    """ipmitool -L OPERATOR -t: stays operator, and works."""
    said = bmc.ipmitool("power", "status", account=bmc.operator, options=("-L", "OPERATOR"))
    assert said.code == 0, said.output


@case(Group.BRIDGING, needs="bridging odd")
def ipmitool_odd_address(bmc: Bmc) -> None:
    """ipmitool takes odd addresses."""
    assert bmc.odd is not None
    options = ("-b", str(bmc.odd[0]), "-t", hex(bmc.odd[1]))
    said = bmc.ipmitool("mc", "info", options=options, bridged=False)
    assert said.code == 0, said.output


@case(Group.BRIDGING, needs="bridging far")
def ipmitool_far_channel(bmc: Bmc) -> None:
    """ipmitool -b gives the channel."""
    assert bmc.far is not None
    options = ("-b", str(bmc.far[0]), "-t", hex(bmc.far[1]))
    said = bmc.ipmitool("power", "status", options=options, bridged=False)
    assert said.code == 0, said.output
    assert "Chassis Power is" in said.output
