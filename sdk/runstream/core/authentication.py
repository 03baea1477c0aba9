"""How scripts used to sign in. Here a key does that, from RUNSTREAM_API_KEY or the configuration.

The classes are accepted wherever `auth` is, and mean nothing.
"""

from typing import Any


class AbstractAuthentication:
    """Whatever its arguments are, it is accepted and not used."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def get_authentication_header(self) -> dict[str, str]:
        """What a request to the server carries: the key that is in the environment, if one is."""
        import os

        key = os.environ.get("RUNSTREAM_API_KEY")
        return {"Authorization": f"Bearer {key}"} if key else {}


class InteractiveLoginAuthentication(AbstractAuthentication):
    """Signing in by a browser."""


class AzureCliAuthentication(AbstractAuthentication):
    """Signing in by another tool."""


class ServicePrincipalAuthentication(AbstractAuthentication):
    """Signing in as a program."""


class MsiAuthentication(AbstractAuthentication):
    """Signing in as a machine."""
