"""Run configurations: how a script is run, as scripts of the old SDK spell it out."""

from collections.abc import Sequence
from typing import Any

from runstream.core.conda_dependencies import CondaDependencies
from runstream.core.environment import DockerSection, Environment, PythonSection
from runstream.core.guarded import Guarded
from runstream.errors import RunConfigurationError, UserError

DEFAULT_ENVIRONMENT = "default-environment"


class DistributedConfiguration(Guarded):
    """Several processes that run one script together: its ranks."""

    def __init__(self, processes: Any, node_count: Any) -> None:
        for what, value in (("the number of processes", processes), ("node_count", node_count)):
            if type(value) is not int or not 1 <= value <= 100_000:
                raise RunConfigurationError(f"{what} is a number from 1, not {value!r:.100}")
        if processes % node_count:
            raise RunConfigurationError(
                f"{processes} processes can't be spread evenly over {node_count} nodes: give a multiple"
            )
        self.processes = processes
        self.node_count = node_count


class PyTorchConfiguration(DistributedConfiguration):
    """Ranks for torch.distributed: `process_count` in all, by default one for each node."""

    def __init__(
        self, communication_backend: str = "Nccl", process_count: int | None = None, node_count: int = 1
    ) -> None:
        super().__init__(node_count if process_count is None else process_count, node_count)
        self.communication_backend = communication_backend
        self.process_count = process_count
        self._seal()


class MpiConfiguration(DistributedConfiguration):
    """The same ranks, counted for each node. No `mpirun` is needed, and none is used."""

    def __init__(self, process_count_per_node: int = 1, node_count: int = 1) -> None:
        if type(process_count_per_node) is not int or type(node_count) is not int:
            raise RunConfigurationError("process_count_per_node and node_count are numbers from 1")
        super().__init__(process_count_per_node * node_count, node_count)
        self.process_count_per_node = process_count_per_node
        self._seal()


class DockerConfiguration(Guarded):
    """Kept with the run and shown; a local run uses no container."""

    def __init__(
        self,
        use_docker: bool = False,
        shared_volumes: bool = True,
        arguments: Sequence[str] | None = None,
        shm_size: str | None = None,
    ) -> None:
        self.use_docker = use_docker
        self.shared_volumes = shared_volumes
        self.arguments = list(arguments or ())
        self.shm_size = shm_size
        self._seal()


class HistoryConfiguration(Guarded):
    """What is kept of a run beside what it logs."""

    def __init__(self) -> None:
        self.output_collection = True
        self.snapshot_project = True
        self.directories_to_watch = ["logs"]
        self._seal()


class RunConfiguration(Guarded):
    """How a script is run. `target` is `local`, or `slurm`."""

    def __init__(
        self,
        script: str | None = None,
        arguments: Sequence[Any] | None = None,
        framework: str | None = None,
        communicator: str | None = None,
        conda_dependencies: CondaDependencies | None = None,
        command: str | Sequence[str] | None = None,
        **_: Any,
    ) -> None:
        if isinstance(arguments, str):
            raise UserError("arguments is a list, such as ['--alpha', 0.1], not a text")
        self.script = script
        self.arguments: list[Any] = list(arguments or ())
        self.command: str | list[str] = command if isinstance(command, str) else list(command or ())
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self.target = "local"
        self.environment = Environment(DEFAULT_ENVIRONMENT)
        self.environment.python.conda_dependencies = conda_dependencies
        self.environment_variables: dict[str, str] = {}
        self.history = HistoryConfiguration()
        self.docker: DockerConfiguration | None = None
        self.distributed: DistributedConfiguration | None = None
        self.node_count = 1
        self.max_run_duration_seconds: float | None = None
        self._seal()


__all__ = [
    "CondaDependencies",
    "DistributedConfiguration",
    "DockerConfiguration",
    "DockerSection",
    "Environment",
    "HistoryConfiguration",
    "MpiConfiguration",
    "PyTorchConfiguration",
    "PythonSection",
    "RunConfiguration",
]
