"""Errors of the server process.

::

    ServerError           the server can't start; the message says what to do
    ├── ConfigError       a setting makes no sense
    ├── AddressTaken      something else listens on the port
    └── DataFolderInUse   another server works on the same data
"""


class ServerError(Exception):
    """The server can't start. The message is for a person and says what to do."""


class ConfigError(ServerError):
    """A setting makes no sense."""


class AddressTaken(ServerError):
    """Something else listens on the port, or the address is not this machine's."""


class DataFolderInUse(ServerError):
    """Another server works on the same data."""
