"""Who calls, and what they may.

A token of the server or one of its API keys may do everything. A share's token may only read, and only what
the share shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message

from runstream_query.errors import Unauthenticated
from runstream_store.credentials import Authenticator


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    name: str
    """Of the credential: `local`, or the name of an API key."""


@dataclass(frozen=True, slots=True)
class Access:
    """Lets callers in."""

    auth: Authenticator

    async def enter(self, authorization: str | None, request: Message, *, shared: bool) -> Caller:
        """Who sent this `authorization` header with this request.

        :param shared: the request is one that a share's token may make, for what the share shows.
        :raises Unauthenticated: nobody known.
        """
        return self.sign_in(authorization)

    def sign_in(self, authorization: str | None) -> Caller:
        """Who sent this `authorization` header: somebody who may do everything.

        :raises Unauthenticated: nobody known.
        """
        principal = self.auth.authenticate(authorization)
        if principal is None:
            raise Unauthenticated(
                "no token: send 'authorization: Bearer <token>'; `runstream token` prints this machine's"
                if authorization is None
                else "the token is not known to this server"
            )
        return Caller(principal.name)

    def knows(self, token: str) -> bool:
        """Whether a token is anybody's who may do everything."""
        return self.auth.who(token) is not None
