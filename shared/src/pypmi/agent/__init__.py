"""The agent runtime: everything an agent does that is not its hardware. See `AgentRuntime`."""

from pypmi.agent.definition import AgentNode
from pypmi.agent.journal import Journal
from pypmi.agent.publisher import AgentObserver
from pypmi.agent.runtime import AgentRuntime
from pypmi.agent.store import JournalError

__all__ = ["AgentNode", "AgentObserver", "AgentRuntime", "Journal", "JournalError"]
