"""How far records go: RUNSTREAM_MODE.

online    kept in the spool and delivered by the sender; the default
offline   kept in a spool of its own, and delivered when somebody calls `runstream sync`
disabled  checked and forgotten: nothing is written, no process is started
"""

import os
from pathlib import Path
from typing import Final

from runstream.core.notices import say
from runstream.spool.folder import spool_root

ONLINE: Final = "online"
OFFLINE: Final = "offline"
DISABLED: Final = "disabled"
_OFFLINE_FOLDER: Final = "offline"


def mode() -> str:
    """What the environment says now."""
    told = os.environ.get("RUNSTREAM_MODE", "").strip().lower() or ONLINE
    if told in (ONLINE, OFFLINE, DISABLED):
        return told
    say(f"RUNSTREAM_MODE is {told!r}: taken as online (it can be online, offline or disabled)", once="mode")
    return ONLINE


def root() -> Path:
    """The spool that new writers begin in. Raises OSError when there is no place for one."""
    return offline_root() if mode() == OFFLINE else spool_root()


def is_offline(root: Path) -> bool:
    """Whether a spool is that of what was logged offline."""
    return root.name == _OFFLINE_FOLDER


def offline_root() -> Path:
    """The spool of what was logged offline: senders don't look there."""
    folder = spool_root() / _OFFLINE_FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
