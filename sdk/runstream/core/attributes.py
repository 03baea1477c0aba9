"""Tags, properties, parameters and names of a run."""

from collections.abc import Iterable, Mapping
from time import time_ns
from typing import Any, Final

from runstream.core import reads, values
from runstream.core.handle import RunHandle
from runstream.errors import RunstreamError, UserError
from runstream.spool import layout

_ASK_S: Final = 2.0
_LONG: Final = layout.MOST_TEXT_BYTES // 4  # characters that may be more bytes than that


class RunAttributes(RunHandle):
    """What is said about a run in keys and values.

    Setting something asks no server and never fails because of one.
    """

    # ------------------------------------------------------------------------------------- tags

    def tag(self, key: str, value: object = None) -> None:
        """Set a tag, again if it is set. Values other than text are stored as text."""
        self._set("tag", key, values.text_of(value))

    def set_tags(self, tags: Mapping[str, object] | str) -> None:
        """Set several tags; those that are not named stay. A text is one tag without a value."""
        if isinstance(tags, str):
            tags = {tags: None}
        for key, value in values.texts_by_key("tags", tags).items():
            self._set("tag", key, value)

    def remove_tags(self, tags: Iterable[str] | str) -> None:
        """Remove tags by their keys. A run need not have them."""
        for key in values.keys_of(tags):
            self._set("tag", key, None, removed=True)

    def get_tags(self) -> dict[str, str | None]:
        """The tags as they are now, with those that this process has set."""
        return dict(reads.record(self._experiment.workspace, self._state, fresh=True).tags)

    @property
    def tags(self) -> dict[str, str | None]:
        """The tags as they were last read."""
        return dict(reads.record(self._experiment.workspace, self._state).tags)

    # ------------------------------------------------------------------------------- properties

    def add_properties(self, properties: Mapping[str, object]) -> None:
        """Set properties, which never change: raises UserError for a key that has another value.

        Of two processes that set one key at the same time the first counts.
        """
        texts = values.texts_by_key("properties", properties)
        if not texts:
            return
        known = self._known_properties()
        for key, value in texts.items():
            if key in known and known[key] != value:
                raise UserError(
                    f"property {key!r} of run {self.id} is {known[key]!r} and can't become {value!r}: "
                    "properties never change. Use a tag for what may"
                )
        for key, value in texts.items():
            if key not in known:
                self._set("property", key, value)

    def _known_properties(self) -> dict[str, str | None]:
        known = dict(self._state.facts.properties)
        if not self._state.facts.whole:
            try:
                known |= reads.record(
                    self._experiment.workspace, self._state, fresh=True, wait_s=_ASK_S
                ).properties
            except RunstreamError:
                pass  # no server to ask: it keeps the first value of each
        return known

    def get_properties(self) -> dict[str, str | None]:
        """The properties as they are now, with those that this process has set."""
        return dict(reads.record(self._experiment.workspace, self._state, fresh=True).properties)

    @property
    def properties(self) -> dict[str, str | None]:
        """The properties as they were last read."""
        return dict(reads.record(self._experiment.workspace, self._state).properties)

    # ------------------------------------------------------------------------------- parameters

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Say what this run varies: a learning rate, a seed. A dictionary inside gives keys with dots.

        Runs are compared, filtered and sorted by them. The same key again replaces the value.
        """
        for key, value in _flat("", params, "params").items():
            self._set("param", key, value)

    def get_params(self) -> dict[str, str | None]:
        """The parameters as they are now, as texts."""
        return dict(reads.record(self._experiment.workspace, self._state, fresh=True).params)

    # ------------------------------------------------------------------------------------ names

    @property
    def display_name(self) -> str:
        """Name for people. Settable; may be given to several runs."""
        return reads.record(self._experiment.workspace, self._state).display_name

    @display_name.setter
    def display_name(self, name: str) -> None:
        if not values.is_text(name, values.MAX_RUN_NAME):
            raise UserError(
                f"a display name is a text of 1 to {values.MAX_RUN_NAME:,} characters, not {name!r:.100}"
            )
        name = values.run_name(name)
        self._set("system", "display_name", name)
        self._state.facts.display_name = name

    @property
    def name(self) -> str:
        """The display name."""
        return self.display_name

    @property
    def description(self) -> str:
        """What it is about, for people. Settable; Markdown is shown as such."""
        return reads.record(self._experiment.workspace, self._state).description

    @description.setter
    def description(self, text: str | None) -> None:
        text = values.run_description(text)
        self._set("system", "description", text or None, removed=not text)
        self._state.facts.description = text

    # ---------------------------------------------------------------------------------- setting

    def _set(self, kind: str, key: str, value: str | None, removed: bool = False) -> None:
        if not values.is_text(key, values.MAX_KEY):
            raise UserError(
                f"the key of a {kind} is a text of 1 to {values.MAX_KEY:,} characters, not {key!r:.100}"
            )
        if value is not None and len(value) > _LONG and len(layout.utf8(value)) > layout.MOST_TEXT_BYTES:
            raise UserError(
                f"the value of {kind} {key!r:.100} is longer than {layout.MOST_TEXT_BYTES >> 20} MiB: "
                "upload it as a file"
            )
        now = time_ns()
        state = self._state
        key = layout.clean(key)
        content: dict[str, object] = {"kind": kind, "key": key, "value": value, "removed": removed}
        state.keep(lambda channel: channel.event(layout.ATTRIBUTE_SET, content, now))
        facts = state.facts
        kept = {"tag": facts.tags, "property": facts.properties, "param": facts.params}.get(kind, {})
        if removed:
            kept.pop(key, None)
        else:
            kept[key] = value
        state.record = None  # it is not as it was any more


def _flat(prefix: str, given: Any, what: str) -> dict[str, str | None]:
    """Dictionaries inside of dictionaries, with dots between their keys."""
    if not isinstance(given, Mapping):
        raise UserError(f"{what} are a dictionary, not {given!r:.100}")
    found: dict[str, str | None] = {}
    for key, value in given.items():
        name = f"{prefix}{key}"
        if not values.is_text(name, values.MAX_KEY):
            raise UserError(
                f"the name of a parameter has 1 to {values.MAX_KEY:,} characters, not {name!r:.100}"
            )
        if isinstance(value, Mapping) and value:
            found |= _flat(f"{name}.", value, what)
        else:
            found[layout.clean(name)] = values.text_of(value)
    return found
