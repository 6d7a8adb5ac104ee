"""What can go wrong on the bus. `BusError` catches all; the text says why, for people."""


class BusError(Exception):
    """Base of all errors of the bus."""


class BusDisconnectedError(BusError):
    """There is no connection to the broker, or it was lost before the broker had acknowledged."""


class BusRefusedError(BusError):
    """The broker refused: a publish or subscription that its access rules do not allow, or one too large."""


class BusOverflowError(BusError):
    """More messages wait for the broker than the bus holds."""


class ClientIdTakenError(BusError):
    """Another process connected with the same client id. Fatal: the two would throw each other out for ever."""
