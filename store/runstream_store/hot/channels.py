"""Channels of the hot state that several packages use."""

from __future__ import annotations

from typing import Final

COMMANDS: Final = "commands"
"""Serialized `runstream.v1.Command`s for writers, which the streams of their senders take."""
