"""What runstream raises.

    RunstreamError
    ├── UserError                      wrong arguments; nothing was changed
    │   └── AuthenticationError        no credential, or one that the server doesn't accept
    ├── RunEnvironmentError            needs a submitted run, and this is none
    ├── ExperimentExecutionError       a submitted run could not be run
    ├── ActivityFailedError            the run that was waited for failed
    ├── SnapshotError                  the source folder could not be kept
    ├── RunConfigurationError          a configuration that can't be used
    ├── TrainingError
    ├── ModelNotFoundError
    │   └── ModelPathNotFoundError
    ├── WorkspaceError
    └── ServiceError                   the server, or the way to it
        ├── ServiceUnavailableError    it can't be reached just now
        ├── DeadlineError              it did not answer in the time given; older data is never given as new
        ├── VersionError               it is older or newer than this client, and doesn't know what was asked
        └── NotFoundError              it has no such run

Logging raises UserError for wrong arguments, and nothing because of the tracker: not for a full
disk, a missing server or a limit. `runstream.exceptions` has the same classes under the names of
the SDK that this one is compatible with.
"""


class RunstreamError(Exception):
    """Base of all errors of runstream."""

    retryable = False  # the same call may succeed later, unchanged

    @property
    def message(self) -> str:
        """The text, as the compatible SDK names it."""
        return str(self)


class UserError(RunstreamError):
    """Wrong arguments or configuration."""


class AuthenticationError(UserError):
    """There is no credential, or the server doesn't accept it."""


class RunEnvironmentError(RunstreamError):
    """Called outside of a submitted run."""


class ExperimentExecutionError(RunstreamError):
    """A submitted run could not be run."""


class ActivityFailedError(RunstreamError):
    """The run that was waited for failed."""


class SnapshotError(RunstreamError):
    """The source folder could not be kept."""


class RunConfigurationError(RunstreamError):
    """A run configuration that can't be used."""


class TrainingError(RunstreamError):
    """Training could not be set up."""


class ModelNotFoundError(RunstreamError):
    """There is no such model."""


class ModelPathNotFoundError(ModelNotFoundError):
    """The run has no such file."""


class WorkspaceError(RunstreamError):
    """The workspace can't be used."""


class ServiceError(RunstreamError):
    """The server refused, or could not be asked."""


class ServiceUnavailableError(ServiceError):
    """The server can't be reached just now."""

    retryable = True


class DeadlineError(ServiceError):
    """The server did not answer in time."""

    retryable = True


class NotFoundError(ServiceError):
    """The server has no such thing."""


class VersionError(ServiceError):
    """The server is of another version, and doesn't know what was asked."""
