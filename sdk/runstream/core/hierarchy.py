"""Children and parents of a run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runstream.core import reads, values
from runstream.core.handle import RunHandle
from runstream.errors import UserError

if TYPE_CHECKING:
    from runstream.core.run import Run
    from runstream.core.script_run import ScriptRun
    from runstream.core.script_run_config import ScriptRunConfig
    from runstream.core.search import Wanted

BATCH_CHILD_NUMBER = "azureml.batch_child_number"
"""Tag that numbers the children that were made by their count; named as scripts know it."""


class RunHierarchy(RunHandle):
    """Runs inside of runs, as for the trials of a sweep."""

    def child_run(
        self,
        name: str | None = None,
        run_id: str | None = None,
        outputs: bool | str | list[str] | None = None,
    ) -> "Run":
        """Start a child. It is running when this returns; the parent's end does not end it.

        `name` is its display name. Other parameters as of `Experiment.start_logging`.
        """
        child = self._experiment._begin(
            run_id=run_id, outputs=False if outputs is None else outputs, display_name=name, parent=self.id
        )
        self._state.facts.add_child(child.id, child._state.facts)
        return child

    def submit_child(
        self,
        config: "ScriptRunConfig",
        tags: Mapping[str, object] | None = None,
        run_id: str | None = None,
        display_name: str | None = None,
        **_: Any,
    ) -> "ScriptRun":
        """Submit a script as a child of this run. Parameters and errors as of `Experiment.submit`."""
        from runstream.core.script_run import submitted

        child = submitted(self._experiment, config, tags, run_id, display_name, self.id)
        self._state.facts.add_child(child.id, child._state.facts)
        return child

    def create_children(
        self,
        count: int | None = None,
        tag_key: str | None = None,
        tag_values: Sequence[object] | None = None,
    ) -> "list[Run]":
        """Start several children: `count` of them, or one for each value of a tag.

        Those that are made by count are numbered by the tag `azureml.batch_child_number`. All are running.
        """
        if count is not None:
            if tag_key is not None or tag_values is not None:
                raise UserError("create_children takes count, or tag_key with tag_values, not both")
            if type(count) is not int or count < 1:
                raise UserError(f"the count of children is a number from 1, not {count!r}")
            key, numbered = BATCH_CHILD_NUMBER, [str(number) for number in range(count)]
        else:
            if tag_key is None or tag_values is None:
                raise UserError("create_children needs count, or both of tag_key and tag_values")
            if isinstance(tag_values, str):
                raise UserError("tag_values is a list of values, not a text")
            if not values.is_text(tag_key, values.MAX_KEY):
                raise UserError(
                    f"tag_key is a text of 1 to {values.MAX_KEY:,} characters, not {tag_key!r:.100}; "
                    "no child was made"
                )
            if not isinstance(tag_values, Iterable):
                raise UserError(f"tag_values is a list of values, not {tag_values!r:.100}")
            key, numbered = tag_key, [value if isinstance(value, str) else str(value) for value in tag_values]
        children = []
        for value in numbered:
            child = self.child_run()
            child.tag(key, value)
            children.append(child)
        return children

    def get_children(
        self,
        recursive: bool = False,
        tags: "Wanted" = None,
        properties: "Wanted" = None,
        type: str | None = None,
        status: str | None = None,
        _rehydrate_runs: bool = True,
    ) -> "Iterator[Run]":
        """Its children, newest start first; with `recursive` their children too, and so on.

        `tags`, `properties`: a key that they have, or a dictionary of keys and values that they all have.
        """
        from runstream.core.search import Family, Query, runs_of

        query = Query(tags, properties, type, status, family=Family(self.id, bool(recursive)))
        return runs_of(self._experiment.workspace, query, self._state)

    @property
    def parent(self) -> "Run | None":
        """The run that it is a child of."""
        state = self._state
        parent = state.facts.parent
        if not parent and not state.facts.whole:
            parent = reads.record(self._experiment.workspace, state).parent
        return self._sibling(parent) if parent else None

    def _sibling(self, run_id: str) -> "Run":
        """Another run of the workspace; of the same experiment when no server can tell."""
        from runstream.core.run import Run
        from runstream.errors import ServiceError

        try:
            return Run.get(self._experiment.workspace, run_id)
        except ServiceError:
            return Run(self._experiment, run_id)
