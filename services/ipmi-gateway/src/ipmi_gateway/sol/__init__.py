"""Serial over LAN (section 15): the SOL payload of a session, and what it is connected to."""
