"""What of capture is on."""

import os


def wanted(setting: str) -> bool:
    """Whether a kind of capture is on, as the environment says."""
    return os.environ.get(setting, "").strip().lower() not in ("0", "off", "false", "no")
