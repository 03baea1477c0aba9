"""The errors under the names of the SDK that this one is compatible with. See `runstream.errors`."""

from runstream.errors import ActivityFailedError as ActivityFailedException
from runstream.errors import AuthenticationError as AuthenticationException
from runstream.errors import ExperimentExecutionError as ExperimentExecutionException
from runstream.errors import ModelNotFoundError as ModelNotFoundException
from runstream.errors import ModelPathNotFoundError as ModelPathNotFoundException
from runstream.errors import RunConfigurationError as RunConfigurationException
from runstream.errors import RunEnvironmentError as RunEnvironmentException
from runstream.errors import RunstreamError
from runstream.errors import ServiceError as ServiceException
from runstream.errors import SnapshotError as SnapshotException
from runstream.errors import TrainingError as TrainingException
from runstream.errors import UserError as UserErrorException
from runstream.errors import WorkspaceError as WorkspaceException

AzureMLException = RunstreamError

__all__ = [
    "ActivityFailedException",
    "AuthenticationException",
    "AzureMLException",
    "ExperimentExecutionException",
    "ModelNotFoundException",
    "ModelPathNotFoundException",
    "RunConfigurationException",
    "RunEnvironmentException",
    "RunstreamError",
    "ServiceException",
    "SnapshotException",
    "TrainingException",
    "UserErrorException",
    "WorkspaceException",
]
