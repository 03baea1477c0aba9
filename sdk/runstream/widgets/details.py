"""`RunDetails`: a run in a notebook."""

from collections.abc import Mapping
from typing import Any

from runstream.core import display
from runstream.core.run import Run
from runstream.errors import UserError
from runstream.widgets import live
from runstream.widgets.data import widget_data


class RunDetails:
    """Shows status, metrics, children and log of a run, of this process or an earlier one."""

    def __init__(self, run_instance: Run) -> None:
        """Asks no server. Raises UserError for what is no run."""
        if not isinstance(run_instance, Run):
            raise UserError(
                f"RunDetails shows a Run, not {run_instance!r:.100}; "
                "an earlier one is Run(experiment, run_id) or Run.get(workspace, run_id)"
            )
        self._run = run_instance

    def show(self, render_lib: Any = None, widget_settings: Mapping[str, Any] | None = None) -> None:
        """Show the run. Returns at once.

        In a notebook what is shown follows the run until it is over, every 2 to 15 seconds; that the server
        can't be reached is shown there, too. Elsewhere a summary is printed.

        `render_lib` and `widget_settings` are accepted and have no effect.
        """
        _check(widget_settings)
        if live.in_kernel():
            live.show(self._run, self._summary())
        else:
            print(self._summary(), flush=True)
            if self._run._state.status is None and (error := self._run._glance()[1]) is not None:
                print(f"{live.what(error)}: {error}", flush=True)

    def get_widget_data(self, widget_settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What is shown, as `run_properties`, `run_metrics`, `child_runs` and `run_logs`.

        A metric is a list, also of one value, or a dictionary of columns, which are lists. Raises
        NotFoundError for a run that the server doesn't know, ServiceError when the server can't be asked.
        """
        _check(widget_settings)
        return widget_data(self._run)

    def _summary(self) -> str:
        return f"{display.run_text(self._run)}\nDetails: {self._run.get_portal_url()}"

    def __repr__(self) -> str:
        return self._summary()

    def _repr_html_(self) -> str:
        """As it is now: for the last expression of a cell. It does not follow the run, `show()` does."""
        return live.once(self._run)


def _check(widget_settings: object) -> None:
    if widget_settings is not None and not isinstance(widget_settings, Mapping):
        raise UserError(f"widget_settings is a dictionary or None, not {widget_settings!r:.100}")
