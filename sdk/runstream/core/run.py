"""Runs: what scripts log to."""

import time
from collections.abc import Mapping
from time import time_ns
from types import TracebackType
from typing import Any, Final, Literal

from runstream.core import delivery, exit, reads, values
from runstream.core.experiment import Experiment
from runstream.core.notices import say
from runstream.core.state import ATTACHED, MAIN, WORKER, RunState, attach, known
from runstream.core.workspace import Workspace
from runstream.errors import DeadlineError, UserError
from runstream.spool import blocks, layout
from runstream.spool.blocks import Column, Scalar
from runstream.spool.channel import Channel

_NO_STEP: Final = layout.NO_STEP
_FINAL: Final = ("Completed", "Failed", "Canceled")
_LOWEST: Final = -(2**63) + 1
_HIGHEST: Final = 2**63 - 1


class Run:
    """A run.

    Logging to it costs about half a microsecond, never waits for a server and never fails because of one.
    """

    def __init__(self, experiment: Experiment, run_id: str, outputs: object = None, **_: Any) -> None:
        """A run that exists, by its id. Asks no server.

        What is logged through it is added to the run; the run's end is not this process's affair.
        """
        if not isinstance(experiment, Experiment):
            raise UserError(f"a run belongs to an Experiment, not to {experiment!r}")
        if not values.is_text(run_id, 256):
            raise UserError(f"a run id is a text of 1 to 256 characters, not {run_id!r}")
        self._experiment = experiment
        self._state: RunState = attach(experiment.workspace.target, experiment.name, run_id, ATTACHED)

    @classmethod
    def _start(
        cls, experiment: Experiment, run_id: str, launch: str, restart: int, display_name: str
    ) -> "Run":
        """Begin a run, or this rank's part of it, in this process."""
        exit.install()
        run = cls.__new__(cls)
        run._experiment = experiment
        target = experiment.workspace.target
        state = attach(target, experiment.name, run_id, MAIN, launch, restart)
        if state.role != MAIN:  # it was attached before: a run of its own from here on
            state = RunState(target, experiment.name, run_id, MAIN, launch, restart)
        run._state = state
        state.status = "Running"
        content: dict[str, object] = {
            "experiment": experiment.name,
            "launch": launch,
            "display_name": values.description_text(display_name),
            "parent": "",
            "run_type": "",
        }
        now = time_ns()
        state.keep(lambda channel: channel.event(layout.RUN_STARTED, content, now, last_words=True))
        delivery.nudge_sender()
        return run

    def __reduce__(self) -> tuple[Any, ...]:
        state = self._state
        place = (self._experiment, state.id, state.role, state.launch, state.restart)
        return _restore, place

    # --------------------------------------------------------------------------------- identity

    @property
    def id(self) -> str:
        """Id of the run, unique in its workspace."""
        return self._state.id

    @property
    def experiment(self) -> Experiment:
        """The experiment it belongs to."""
        return self._experiment

    def __repr__(self) -> str:
        status = self._state.status or "unknown"
        return f"Run(Experiment: {self._experiment.name},\nId: {self.id},\nType: None,\nStatus: {status})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Run)
            and other.id == self.id
            and other._experiment.workspace == self._experiment.workspace
        )

    def __hash__(self) -> int:
        return hash(self.id)

    # ---------------------------------------------------------------------------------- scalars

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Log a value: a number, bool, text or None. The same name again makes a series of them.

        `step` orders the values of a name when all of them have one; it may repeat and go back.
        """
        # The time before the sequence number: who is stopped in between has an early time, never a late one.
        now = time_ns()
        channel = self._state.channel
        try:
            if isinstance(value, float):
                key = channel.doubles[name]
                segment = channel.writer.segment
                words: memoryview[float] | memoryview[int] = segment.doubles
            elif type(value) is int and _LOWEST <= value <= _HIGHEST:
                key = channel.integers[name]
                segment = channel.writer.segment
                words = segment.values
            else:
                return self._log(now, name, value, description, step)
            if description:
                return self._log(now, name, value, description, step)
            number = step
            if number is None:
                number = _NO_STEP
            elif type(step) is not int or not _LOWEST <= step <= _HIGHEST:
                return self._log(now, name, value, description, step)
            # One step of an iterator claims a slot, for this thread and call alone. From here to the last
            # store the interpreter neither switches threads nor runs signal handlers.
            for at in segment.free:
                words[at] = value
                segment.steps[at] = number
                segment.keys[at] = key
                segment.times[at] = now  # the commit
                return None
        except (KeyError, TypeError, ValueError):
            pass  # a new name, a name that is none, or this is a fork in the middle of the call
        return self._log(now, name, value, description, step)

    def _log(self, now: int, name: Any, value: Any, description: Any, step: Any) -> None:
        """Log anything that isn't a number of a known name, or does not fit into the segment at hand."""
        name = values.metric_name(name)
        step = values.step_number(step)
        found: Scalar = values.scalar_or_text(name, value)
        text = values.description_text(description)
        if isinstance(found, str):
            payload = layout.utf8(found)
            kind = layout.TEXT_RECORD
        elif isinstance(found, int) and not -(2**63) <= found < 2**63:
            payload = blocks.decimal(found)
            kind = layout.BIG_INTEGER_RECORD
        else:
            number = found if found is not None else 0
            if found is None:
                kind = layout.NONE
            elif isinstance(found, bool):
                kind = layout.BOOL
            else:
                kind = layout.DOUBLE if isinstance(found, float) else layout.INT64
            self._state.keep(lambda channel: channel.scalar(name, text, kind, number, step, now))
            return
        if len(payload) > layout.MOST_TEXT_BYTES:
            return self._refuse(name, f"a text of {len(payload):,} bytes")
        self._state.keep(lambda channel: channel.text(name, text, kind, payload, step, now))

    def _refuse(self, name: str, what: str) -> None:
        """Count a call that is over a limit, and say so: no limit of ours ends a training."""
        most = layout.MOST_TEXT_BYTES >> 20
        say(
            f"{name!r}: {what} is not kept, since a metric takes up to {most} MiB a text. "
            "This call, and others like it, are counted as dropped",
            once="long text",
        )
        self._state.keep(lambda channel: channel.writer.drop(channel.index))

    # ---------------------------------------------------------------------- lists, rows, tables

    def log_list(self, name: str, value: Any, description: str = "") -> None:
        """Log the elements of an iterable, in one piece. An empty one is kept as empty."""
        now = time_ns()
        name = values.metric_name(name)
        self._log_columns(name, {"": values.elements(name, value)}, description, now)

    def log_row(self, /, name: str, description: str | None = None, **kwargs: Any) -> None:
        """Log one row of a table; the keyword arguments are its cells."""
        now = time_ns()
        name = values.metric_name(name)
        columns = {
            values.column_name(name, key): values.cell(name, key, value) for key, value in kwargs.items()
        }
        self._log_columns(name, columns, description, now)

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Log rows of a table: a dictionary of columns of one length, or of single values."""
        now = time_ns()
        name = values.metric_name(name)
        self._log_columns(name, values.table_columns(name, value), description, now)

    def _log_columns(self, name: str, columns: dict[str, Column], description: Any, now: int) -> None:
        text = values.description_text(description)
        if not columns:
            columns = {"": blocks.TABLE_DECLARATION}

        def write(channel: Channel) -> bool:
            series = [channel.writer.series(name, column, text) for column in columns]
            parts = blocks.encode(list(zip(series, columns.values(), strict=True)))
            return channel.block(parts, series[0], now)

        try:
            self._state.keep(write)
        except blocks.TextTooLongError as error:
            self._refuse(name, str(error))

    # ------------------------------------------------------------------------------- attributes

    def tag(self, key: str, value: object = None) -> None:
        """Set a tag, again if it is set. Values other than text are stored as text."""
        if not values.is_text(key, 1000):
            raise UserError(f"a tag's key must be a text of 1 to 1,000 characters, not {key!r}")
        if value is not None and not isinstance(value, str):
            value = str(value)
        now = time_ns()
        content: dict[str, object] = {"kind": "tag", "key": key, "value": value, "removed": False}
        self._state.keep(lambda channel: channel.event(layout.ATTRIBUTE_SET, content, now))

    # -------------------------------------------------------------------------------------- end

    def complete(self) -> None:
        """End the run well. Waits a while for the delivery, but never longer than the bound for it."""
        self._end("Completed", "", "")

    def fail(self, error_details: str | BaseException | None = None, error_code: str | None = None) -> None:
        """End the run as failed. An exception gives its type, message and traceback."""
        if error_details is None:
            message = ""
        elif isinstance(error_details, BaseException):
            message = exit.describe(type(error_details), error_details, error_details.__traceback__)
        elif isinstance(error_details, str):
            message = error_details
        else:
            raise TypeError(f"error_details is a text or an exception, not {type(error_details).__name__}")
        self._end("Failed", message, "UserError" if error_code is None else str(error_code))

    def cancel(self) -> None:
        """End the run as canceled."""
        self._end("Canceled", "", "")

    def _end(self, status: str, message: str, code: str) -> None:
        state = self._state
        if state.decides() and state.status in _FINAL:
            status = state.status  # the first end counts
        elif state.decides():
            now = time_ns()
            content: dict[str, object] = {
                "status": status,
                "error_message": message[:100_000],
                "error_code": code,
            }
            state.keep(lambda channel: channel.event(layout.RUN_ENDED, content, now, last_words=True))
        state.status = status
        delivery.drain_at_complete()

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        if self._state.status in _FINAL:
            return False
        if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.complete()
        elif isinstance(error, KeyboardInterrupt):
            self.cancel()
        elif isinstance(error, SystemExit):
            self.fail(f"exit code {error.code}")
        else:
            self.fail(error)
        return False

    def flush(self, timeout_seconds: float = 300) -> None:
        """Wait until the server has acknowledged everything that this process has logged.

        A server that can't be reached is told in a line, and nothing is waited for. Raises DeadlineError when
        it took too long.
        """
        start = time.monotonic()
        _, _, problem = delivery.flush(timeout_seconds)
        if problem is None:
            return
        if problem.get("error") == "timeout":
            raise DeadlineError(
                f"not all that was logged is acknowledged after {time.monotonic() - start:.0f} s; "
                "it is kept and on its way"
            )
        delivery.tell_undelivered(problem)

    # ------------------------------------------------------------------------------------ reads

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        run_type: str | None = None,
        populate: bool = False,
        *,
        rank: int | None = None,
    ) -> dict[str, Any]:
        """What was logged, by name: a value, a list of them, or a dictionary of columns.

        Includes all that this process has logged before. One value is given as it is; more are a list, in
        order of step if all have one, else of time. `rank` selects what one rank logged. With `recursive` the
        result is by run id, and runs without metrics are left out.

        `run_type` and `populate` are accepted for scripts that give them.

        Raises UserError for arguments of wrong types, NotFoundError for a run that the server doesn't know,
        ServiceError when the server can't be asked.
        """
        if name is not None:
            name = values.metric_name(name)
        if rank is not None and (type(rank) is not int or rank < 0):
            raise UserError(f"a rank is a number from 0, not {rank!r}")
        ranks = () if rank is None else (rank,)
        found = reads.get_metrics(self._experiment.workspace, self._state, name, ranks)
        if recursive:
            return {self.id: found} if found else {}
        return found

    def get_status(self) -> str:
        """Status of the run, such as Running or Completed. Without a server it is what this process knows."""
        return reads.get_status(self._experiment.workspace, self._state)

    def get_portal_url(self) -> str:
        """Address of the run's page. Made without asking a server."""
        return reads.portal_url(self._experiment.workspace, self._state.id)


def _restore(experiment: Experiment, run_id: str, role: str, launch: str, restart: int) -> Run:
    """A run that came from another process, or a copy in the same one."""
    run = Run.__new__(Run)
    run._experiment = experiment
    target = experiment.workspace.target
    here = known(target, run_id)
    run._state = here or attach(
        target, experiment.name, run_id, WORKER if role == MAIN else role, launch, restart
    )
    exit.install()
    return run


__all__ = ["Experiment", "Run", "Workspace"]
