"""Registers models: named, versioned pointers to a run's files."""

from collections.abc import Mapping
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from runstream.core import keeping, outputs, values
from runstream.core.files import RunFiles
from runstream.core.notices import say
from runstream.core.paths import artifact_path
from runstream.errors import ModelPathNotFoundError, ServiceError, UserError
from runstream.spool import layout

if TYPE_CHECKING:
    from runstream.core.model import Model

MAX_NAME: Final = 255
_MAX_DESCRIPTION: Final = 5000


class RunModels(RunFiles):
    """Registers what a run has made."""

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        model_framework: object = None,
        model_framework_version: str | None = None,
        description: str | None = None,
        *_: Any,
        file_name: str | None = None,
        **__: Any,
    ) -> "Model":
        """Register a file, or all files of a folder, of this run as the next version of a model.

        `model_path` is its name in the run (default: the model's name; `file_name` says the same). A file
        that lies in the run's outputs folder and is not captured yet is uploaded now. The contents that the
        run has at this moment are the model's, whatever is uploaded under these names later.

        Waits for no server if this process has uploaded the files itself. Raises UserError for a name that
        can't be one, ModelPathNotFoundError when the run has no such file.
        """
        from runstream.core.model import Model

        if not values.is_id(model_name, MAX_NAME) or "\n" in model_name:
            raise UserError(
                f"a model's name is a text of 1 to {MAX_NAME} characters, not {model_name!r:.300}"
            )
        if description is not None and not isinstance(description, str):
            raise UserError(f"a model's description is a text, not {description!r:.100}")
        texts, features = _texts("tags", tags), _texts("properties", properties)
        given: Any = model_path if model_path is not None else file_name
        given = model_name if given is None else given
        path = artifact_path(given.rstrip("/") if isinstance(given, str) else given)
        self._have(path)
        now = time_ns()
        content: dict[str, object] = {
            "name": model_name,
            "path": path,
            "description": layout.clean((description or "")[:_MAX_DESCRIPTION]),
            "tags": texts,
            "properties": features,
            "framework": layout.clean(str(model_framework or "")),
            "framework_version": layout.clean(str(model_framework_version or "")),
        }
        place: list[tuple[bytes, int]] = []

        def write(channel: Any) -> bool:
            done = bool(channel.event(layout.MODEL_REGISTERED, content, now))
            place[:] = [(channel.writer.id, now)]
            return done

        if not self._state.keep(write):
            say(f"model {model_name} could not be registered: the spool can't be written")
        return Model._registered(self, content, now, place[0][0] if place else b"")

    def _have(self, path: str) -> None:
        """Make sure that the run has a file, or a folder, of this name."""
        state = self._state
        known = keeping.kept(state)
        for source, name in outputs.find(state, path):
            if name not in known or known[name] not in (None, keeping.stamp_of(source)):
                keeping.keep_path(state, artifact_path(name), source)
        if state.silent or any(name == path or name.startswith(path + "/") for name in known):
            return
        try:
            names = [artifact.path for artifact in self._list("")]
        except ServiceError as error:
            if state.facts.whole:  # nobody else has put files there
                names = sorted(known)
            else:
                say(f"{path} is registered unseen: which files {self.id} has can't be asked: {error}")
                return
        if not any(name == path or name.startswith(path + "/") for name in names):
            shown = ", ".join(names[:20]) or "none"
            more = f" and {len(names) - 20} more" if len(names) > 20 else ""
            raise ModelPathNotFoundError(
                f"run {self.id} has no file or folder {path!r}; it has: {shown}{more}"
            )


def _texts(what: str, given: Mapping[str, object] | None) -> dict[str, str]:
    texts = {} if given is None else values.texts_by_key(what, given)
    return {key: value or "" for key, value in texts.items()}
