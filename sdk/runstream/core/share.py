"""A link that shows a run to whoever has it, for a while, and only to read."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from runstream.core import reads
from runstream.core.workspace import Workspace
from runstream.errors import UserError

if TYPE_CHECKING:
    from runstream.v1.run_service_pb2 import Share as Message


@dataclass(frozen=True, slots=True)
class Share:
    """A link to a run. As a text it is its address."""

    id: str
    """32 hexadecimal digits."""
    url: str
    """The address, which is told once: to who made the link. Empty in a list of links."""
    expires: datetime
    """In UTC."""
    note: str
    workspace: Workspace = field(repr=False)

    @staticmethod
    def of(workspace: Workspace, found: "Message", url: str = "") -> "Share":
        """As the server tells it."""
        expires = datetime.fromtimestamp(found.expires_time_ns / 1e9, UTC)
        return Share(found.share.hex(), url, expires, found.note, workspace)

    def revoke(self) -> None:
        """End the link: when this returns it shows nothing, within a second wherever else it is served."""
        client = reads.client(self.workspace)
        positions = client.revoke_share(self.workspace.name, bytes.fromhex(self.id))
        reads.wait_for(self.workspace.target, positions)

    def __str__(self) -> str:
        return self.url


def seconds_of(expires: timedelta | float | None) -> int:
    """How long a link is good; 0 for the server's default. Raises UserError."""
    if expires is None:
        return 0
    seconds: object = expires.total_seconds() if isinstance(expires, timedelta) else expires
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 1 <= seconds < 2**63:
        raise UserError(f"expires is a timedelta, or seconds from 1 on, not {expires!r:.100}")
    return int(seconds)
