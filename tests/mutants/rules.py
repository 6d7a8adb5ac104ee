"""The safety and security rules, and how to break each one: a mutant is the product with one rule taken out.

Each must make one of its tests fail; a rule that can be taken out unnoticed is not protected by the tests.
"""

from dataclasses import dataclass

_SHARED = "shared/src/pypmi"
_GATEWAY = "services/ipmi-gateway/src/ipmi_gateway"
_ESP8266 = "services/esp8266-agent/src/esp8266_agent"
_RUNTIME = "shared/tests/test_agent_runtime.py"
_JOURNAL = "shared/tests/test_journal.py"
_SESSIONS = "services/ipmi-gateway/tests/test_sessions.py"
_BRIDGING = "services/ipmi-gateway/tests/test_bridging.py"
_HANDSHAKE = "services/ipmi-gateway/tests/test_handshake.py"


@dataclass(frozen=True)
class Mutant:
    """One rule, taken out.

    `text` stands exactly once in `file` and is replaced by `instead`; then one of `tests` must fail.
    """

    rule: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "journal: nothing moves before the command is on disk",
        f"{_SHARED}/agent/desk.py",
        "asyncio.ensure_future(self._journal.record(entry))",
        "asyncio.ensure_future(asyncio.sleep(0))",
        (_RUNTIME, _JOURNAL),
    ),
    Mutant(
        "journal: without one, commands are refused",
        f"{_SHARED}/agent/desk.py",
        "            found = await asyncio.shield(self._recording)\n        except JournalError as failed:",
        "            found = await asyncio.shield(self._recording)\n"
        "        except JournalError:\n            found = None\n        except ZeroDivisionError as failed:",
        (_RUNTIME,),
    ),
    Mutant(
        "journal: what a crash cut short is interrupted, not left open",
        f"{_SHARED}/agent/journal.py",
        "            ended = self._store.interrupt_open(epoch)",
        "            ended: list[Entry] = []",
        (_JOURNAL,),
    ),
    Mutant(
        "dedupe: the same id again is not done again",
        f"{_SHARED}/agent/store.py",
        "        if found is not None:\n            return found\n"
        '        self._opened().execute(\n            "INSERT INTO',
        '        self._opened().execute(\n            "INSERT OR REPLACE INTO',
        (_RUNTIME, _JOURNAL),
    ),
    Mutant(
        "dedupe: a repeated IPMI request is answered again and not done again",
        f"{_GATEWAY}/engine.py",
        "        if known is not None and now < known[0]:",
        "        if known is not None and now < 0:",
        (_SESSIONS,),
    ),
    Mutant(
        "dedupe: a repeat of an IPMI request in work starts nothing",
        f"{_GATEWAY}/engine.py",
        "        if raw in session.waiting:\n            return\n",
        "",
        (_SESSIONS,),
    ),
    Mutant(
        "retained: a retained command is refused",
        f"{_SHARED}/agent/intake.py",
        "    if message.retain:\n        said",
        "    if message.retain and not message.topic:\n        said",
        (_RUNTIME,),
    ),
    Mutant(
        "retained: the broker hands a live retained command over as one",
        f"{_SHARED}/bus/link.py",
        "retainAsPublished=True",
        "retainAsPublished=False",
        (_RUNTIME,),
    ),
    Mutant(
        "late: commands are subscribed so that the broker keeps none",
        f"{_SHARED}/agent/node.py",
        "handler, qos=0, replay=RetainedReplay.NEVER",
        "handler, qos=1, replay=RetainedReplay.NEVER",
        (_RUNTIME,),
    ),
    Mutant(
        "late: an old command is refused",
        f"{_SHARED}/agent/intake.py",
        "    if age > ttl:",
        "    if age > ttl * 1e9:",
        (_RUNTIME, "shared/tests/test_agent_parts.py"),
    ),
    Mutant(
        "one at a time: another action meanwhile is refused",
        f"{_SHARED}/agent/desk.py",
        "        if running is not None:\n            if action is running",
        "        if running is not None and not self._running:\n            if action is running",
        (_RUNTIME,),
    ),
    Mutant(
        "stuck: a press that is broken off is let go",
        f"{_ESP8266}/press.py",
        "            confirmed = await self._let_go(link)",
        "            confirmed = True",
        ("services/esp8266-agent/tests/test_board.py",),
    ),
    Mutant(
        "privilege: of the command itself",
        f"{_GATEWAY}/commands/registry.py",
        "privilege < command.privilege",
        "privilege < 0",
        (_BRIDGING, _SESSIONS),
    ),
    Mutant(
        "privilege: of the command inside Send Message",
        f"{_GATEWAY}/engine.py",
        "request, session.privilege)",
        "request, Privilege.OEM if bridged else session.privilege)",
        (_BRIDGING,),
    ),
    Mutant(
        "privilege: a user reaches the nodes of its list only",
        f"{_GATEWAY}/bridging.py",
        "not user.may_reach(bmc.node_id)",
        "not user",
        (_BRIDGING,),
    ),
    Mutant(
        "replay: each sequence number once, behind the highest",
        f"{_GATEWAY}/sessions/session.py",
        " or self._seen >> behind & 1",
        "",
        (_SESSIONS,),
    ),
    Mutant(
        "replay: the highest sequence number once",
        f"{_GATEWAY}/sessions/session.py",
        "        if ahead == 0 or sequence == 0:\n            return None\n",
        "",
        (_SESSIONS,),
    ),
    Mutant(
        "replay: nothing from before the window",
        f"{_GATEWAY}/sessions/session.py",
        "behind > WINDOW_BEHIND or ",
        "",
        (_SESSIONS,),
    ),
    Mutant(
        "login: the proof of RAKP 3 is checked",
        f"{_GATEWAY}/sessions/manager.py",
        "        if not compare_digest(message.proof, handshake.rakp3_check(user.password)):",
        "        if not compare_digest(message.proof, message.proof):",
        (_HANDSHAKE,),
    ),
    Mutant(
        "login: the level asked for is checked against the user's limit",
        f"{_GATEWAY}/sessions/manager.py",
        "        if message.level > min(user.privilege, half.level):",
        "        if message.level > half.level:",
        (_HANDSHAKE,),
    ),
    Mutant(
        "session: a packet whose proof is wrong is not taken",
        f"{_GATEWAY}/sessions/suites.py",
        "        if not compare_digest(outer.digest()[: self._check_length], datagram[check_at:]):",
        "        if len(outer.digest()[: self._check_length]) != len(datagram[check_at:]):",
        (_SESSIONS,),
    ),
    Mutant(
        "session: a packet from another address is not taken",
        f"{_GATEWAY}/engine.py",
        "        if session.peer != peer or session.listener is not listener:\n            return\n",
        "",
        (_SESSIONS,),
    ),
)
