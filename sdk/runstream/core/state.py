"""A run as this process knows it. All `Run` objects of one run share it."""

import os
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakValueDictionary

from runstream.core import delivery
from runstream.core.facts import Facts
from runstream.core.mode import DISABLED, mode, root
from runstream.core.notices import say
from runstream.spool import process
from runstream.spool.blocks import TextTooLongError
from runstream.spool.channel import Channel
from runstream.spool.tally import Tally
from runstream.spool.writer import Target, Writer, WriterLostError

if TYPE_CHECKING:
    from runstream.core.record import RunRecord

MAIN: Final = "main"
WORKER: Final = "worker"
ATTACHED: Final = "attached"


class _NoWriter:
    """Stands where no writer is yet."""

    lost = True


_unkept: Final = Tally()  # calls of all runs that no spool has counted


def unkept_calls() -> int:
    """How many log calls of this process could not even be counted in a spool."""
    return _unkept.total()


_UNBOUND: Final = Channel(cast(Writer, _NoWriter()), 0)


class RunState:
    """What this process knows of a run, and its way into the spool.

    It is bound to a writer when the first record is written.
    """

    __slots__ = (
        "__weakref__",
        "_pid",
        "_unkept",
        "channel",
        "experiment",
        "facts",
        "id",
        "launch",
        "logs_folder",
        "record",
        "restart",
        "role",
        "silent",
        "submitted",
        "target",
    )

    def __init__(
        self, target: Target, experiment: str, run_id: str, role: str, launch: str, restart: int
    ) -> None:
        self.target = target
        self.experiment = experiment
        self.id = run_id
        self.role = role
        self.launch = launch
        self.restart = restart
        self.submitted = False  # its launcher decides how it ended, not this process
        self.silent = mode() == DISABLED
        self.logs_folder: str | None = None  # that the sender follows for the run
        self.facts = Facts()
        self.record: RunRecord | None = None  # as the server had it when it was last asked
        self.channel = _UNBOUND
        self._pid = os.getpid()
        self._unkept = Tally()  # calls from when there was no writer to count them

    def decides(self) -> bool:
        """Whether this process may end the run: it started it, and is not a fork of the one that did."""
        return self.role == MAIN and self._pid == os.getpid() and not self.submitted

    @property
    def status(self) -> str | None:
        """As this process has set it: Running, Completed, Failed, Canceled."""
        return self.facts.status

    @status.setter
    def status(self, status: str | None) -> None:
        self.facts.status = status

    @property
    def used(self) -> bool:
        """Whether anything was logged to the run through this object."""
        return self.channel is not _UNBOUND

    def keep(self, write: Callable[[Channel], bool]) -> bool:
        """Write through the run's channel; through a new one when the writer is lost.

        False when it was dropped, and counted. Never raises, whatever is wrong with disk or tracker, but for
        TextTooLongError.
        """
        if self.silent:
            return True
        for _ in range(5):
            try:
                channel = self._bind()
            except WriterLostError:
                continue
            if channel is None:
                break
            try:
                try:
                    return write(channel)
                except OSError as error:  # the definition of a series could not be written
                    return channel.writer.drop(channel.index, error)
            except WriterLostError:
                continue
            except TextTooLongError:
                raise
            except Exception as error:
                if channel.writer.lost:  # a signal handler has forked in the middle, and this is the fork
                    continue
                say(f"a record could not be kept: {error!r}; logging goes on", once="unexpected")
                channel.writer.count_dropped(channel.index)
                return False
        self._unkept.add()
        _unkept.add()
        return False

    def _bind(self) -> Channel | None:
        channel = self.channel
        if not channel.writer.lost:
            return channel
        role = WORKER if self.role == MAIN and self._pid != os.getpid() else self.role
        definition: dict[str, object] = {
            "workspace": self.target.workspace,
            "run": self.id,
            "experiment": self.experiment,
            "role": role,
            "launch": None if role == ATTACHED else self.launch,
            "restart": None if role == ATTACHED else self.restart,
            "time_ns": time.time_ns(),
        }
        try:
            writer = process.writer_for(self.target, delivery.origin, delivery.attend, root)
            channel = Channel(writer, writer.define_run(definition))
        except OSError as error:
            say(
                f"nothing can be kept ({error}): logging goes on, and what is lost is counted",
                once="nothing kept",
            )
            return None
        unkept = self._unkept.total()
        if unkept:
            self._unkept.add(-unkept)
            _unkept.add(-unkept)
            writer.count_dropped(channel.index, unkept)
        self.channel = channel
        return channel


_states: WeakValueDictionary[tuple[Target, str], RunState] = WeakValueDictionary()
# A pool's worker gets the run anew with every task, and should not define it anew each time.
_recent: deque[RunState] = deque(maxlen=64)


def known(target: Target, run_id: str) -> RunState | None:
    """The state of a run that is in use in this process."""
    return _states.get((target, run_id))


def attach(
    target: Target, experiment: str, run_id: str, role: str, launch: str = "", restart: int = 0
) -> RunState:
    """The state of a run, made when it is not in use in this process."""
    made = RunState(target, experiment, run_id, role, launch, restart)
    state = _states.setdefault((target, run_id), made)
    if state is made and role != MAIN:
        _recent.append(state)
    return state
