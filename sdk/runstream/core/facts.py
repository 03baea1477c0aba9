"""What this process itself has said about a run. It stands in for the server's word where there is none."""


class Facts:
    """Times in Unix nanoseconds, 0 for none."""

    most_children = 10_000  # a server knows all

    __slots__ = (
        "children",
        "description",
        "display_name",
        "ended_ns",
        "error_code",
        "error_message",
        "params",
        "parent",
        "properties",
        "run_type",
        "started_ns",
        "status",
        "tags",
        "whole",
    )

    def __init__(self) -> None:
        self.whole = False  # the run began here under a new id, so nothing was said of it before
        self.status: str | None = None  # set by this process: Running, Completed, Failed, Canceled
        self.display_name = ""
        self.description = ""
        self.parent = ""
        self.run_type = ""
        self.started_ns = 0
        self.ended_ns = 0
        self.error_message = ""
        self.error_code = ""
        self.tags: dict[str, str | None] = {}
        self.properties: dict[str, str | None] = {}
        self.params: dict[str, str | None] = {}
        self.children: dict[str, Facts] = {}  # by id, in the order of their starts; the newest

    def add_child(self, run_id: str, child: "Facts") -> None:
        """Remember a child; of very many only the newest."""
        if len(self.children) >= self.most_children:
            self.children.pop(next(iter(self.children)), None)
        self.children[run_id] = child
