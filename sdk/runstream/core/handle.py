"""What every part of a run stands on: which run it is, and this process's way to it."""

from runstream.core.experiment import Experiment
from runstream.core.state import RunState


class RunHandle:
    """A run's identity. The parts of `Run` are mixins over this."""

    _experiment: Experiment
    _state: RunState

    @property
    def id(self) -> str:
        """Id of the run, unique in its workspace."""
        return self._state.id

    @property
    def experiment(self) -> Experiment:
        """The experiment it belongs to."""
        return self._experiment

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RunHandle)
            and other.id == self.id
            and other._experiment.workspace == self._experiment.workspace
        )

    def __hash__(self) -> int:
        return hash(self.id)
