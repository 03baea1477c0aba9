"""What shows a run in a notebook: `RunDetails(run).show()`."""

from runstream.widgets.details import RunDetails

__all__ = ["RunDetails"]
