"""Objects whose attributes are known: a mistyped name is an error, not a setting without effect."""

import difflib
from typing import Any


class Guarded:
    """Takes only the attributes that `__init__` has set. Raises AttributeError for others."""

    _sealed = False

    def _seal(self) -> None:
        """No new attributes from here on."""
        object.__setattr__(self, "_sealed", True)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._sealed and not hasattr(self, name):
            known = [known for known in vars(self) if not known.startswith("_")]
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(known))}"
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}: {hint}")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_")
        )
        return f"{type(self).__name__}({values})"
