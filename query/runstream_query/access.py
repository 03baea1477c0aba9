"""Who calls, and what they may.

A token of the server or one of its API keys may do everything. A share's token may only read, and only what
the share shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from google.protobuf.message import Message

from runstream.v1 import run_service_pb2
from runstream_query.errors import PermissionDenied, Unauthenticated
from runstream_query.shares import PREFIX, Shares
from runstream_store.credentials import Authenticator


class Sharing(Enum):
    """Whether a share's token may make a call."""

    NEVER = auto()
    BY_RUNS = auto()
    """When all runs that the request names are shown. It reads nothing else."""
    BY_EXPERIMENT = auto()
    """When it is about the experiment that is shown."""
    FREELY = auto()
    """It tells nothing."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    name: str
    """Of the credential: `local`, the name of an API key, or `share`."""
    share: run_service_pb2.Share | None = None
    """Of a share's token: what it shows."""


@dataclass(frozen=True, slots=True)
class Access:
    """Lets callers in."""

    auth: Authenticator
    shares: Shares | None = None

    async def enter(self, authorization: str | None, request: Message, sharing: Sharing) -> Caller:
        """Who sent this `authorization` header with this request.

        :raises Unauthenticated: nobody known.
        :raises PermissionDenied: they may not do that.
        """
        token = _share_token(authorization)
        if token is None or self.shares is None:
            return self.sign_in(authorization)
        share = await self.shares.find(token)
        match sharing:
            case Sharing.BY_RUNS:
                await self.shares.check_runs(token, share, request)
            case Sharing.BY_EXPERIMENT:
                self.shares.check_experiment(share, request)
            case Sharing.NEVER:
                raise PermissionDenied("a shared link is only for looking at what it shows: sign in for more")
        return Caller("share", share)

    async def visit(self, authorization: str | None) -> Caller:
        """Who opens a page. What the page then reads is asked for by calls, each of which is looked at.

        :raises Unauthenticated: nobody known.
        """
        token = _share_token(authorization)
        if token is None or self.shares is None:
            return self.sign_in(authorization)
        return Caller("share", await self.shares.find(token))

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


def _share_token(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token.startswith(PREFIX) else None
