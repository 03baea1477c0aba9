"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# The machine may be busy: no test fails because of its duration.
settings.register_profile("runstream", deadline=None)
settings.load_profile("runstream")
