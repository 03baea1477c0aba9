"""How this process ends, as its writers tell it: clean, by an exception, interrupted.

`atexit` runs in all three cases and knows none of them. An unhandled exception passes `sys.excepthook`.
`sys.exit` passes nothing, so it is wrapped: it raises a SystemExit that notices when the interpreter itself
asks for its code, which it does only when nobody caught it. (A `raise SystemExit(1)` of the script's own
can't be told from a plain end, unless it leaves a `with run`.) A process that is killed says nothing; its
sender sees that the lock is free.
"""

import atexit
import builtins
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NoReturn

from runstream.core import delivery
from runstream.core.notices import say
from runstream.core.state import unkept_calls
from runstream.spool import process

_MAX_MESSAGE: Final = 30_000

_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]

_installed = False
_hook: _Hook | None = None  # as it was set here
_outcome: dict[str, object] | None = None  # the last that was noticed
_code: Final = SystemExit.__dict__["code"]


class ObservedExit(SystemExit):
    """A SystemExit that knows whether it ended the interpreter."""

    @property
    def code(self) -> Any:
        found = _code.__get__(self, type(self))
        if sys._getframe().f_back is None:  # asked by the interpreter, not by Python code that caught it
            _note_exit(found)
        return found

    @code.setter
    def code(self, value: Any) -> None:
        _code.__set__(self, value)


def install() -> None:
    """Watch this process's end. Does nothing the second time."""
    global _installed, _hook
    if _installed:
        return
    _installed = True
    _hook = sys.excepthook = _watch_exceptions(sys.excepthook)
    sys.exit = _exit
    _watch_quitter(getattr(builtins, "exit", None))  # `quit` is of the same class
    process.on_fork(_forget)
    atexit.register(_at_exit)


def _exit(status: Any = None, /) -> NoReturn:
    """Exit the interpreter by raising SystemExit(status)."""
    raise ObservedExit(status)


def _watch_quitter(quitter: Any) -> None:
    """`exit` and `quit`, which close standard input too."""
    kind = type(quitter)
    if kind.__name__ != "Quitter":  # not site's own
        return
    plain = kind.__call__

    def leave(self: Any, code: Any = None) -> NoReturn:
        try:
            plain(self, code)
        except SystemExit as error:
            raise ObservedExit(error.code) from None
        raise ObservedExit(code)

    kind.__call__ = leave


def _watch_exceptions(hook: _Hook) -> _Hook:
    def watch(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not hasattr(sys, "ps1"):  # an error at a prompt ends nothing
            try:
                _note_exception(kind, error, trace)
            except Exception:
                pass
        hook(kind, error, trace)

    return watch


def _note_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    global _outcome
    if issubclass(kind, KeyboardInterrupt):
        _outcome = {"outcome": "interrupted", "exit_code": 130, "error_message": "KeyboardInterrupt"}
    else:
        message = describe(kind, error, trace)
        _outcome = {"outcome": "exception", "exit_code": 1, "error_message": message}


def _note_exit(code: Any) -> None:
    global _outcome
    if code is None or (isinstance(code, int) and code == 0):
        _outcome = {"outcome": "clean", "exit_code": 0, "error_message": ""}
    elif isinstance(code, int):
        _outcome = {"outcome": "exception", "exit_code": int(code), "error_message": f"exit code {code}"}
    else:  # a text, which the interpreter prints
        _outcome = {"outcome": "exception", "exit_code": 1, "error_message": str(code)[:_MAX_MESSAGE]}


def describe(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> str:
    """Type, message and traceback; the end of it when it is long."""
    import traceback

    text = "".join(traceback.format_exception(kind, error, trace)).rstrip()
    return text if len(text) <= _MAX_MESSAGE else "…" + text[-_MAX_MESSAGE:]


def _note_unseen_exception() -> None:
    """An exception whose hook was replaced after ours was set: the interpreter remembers it."""
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if _outcome is not None or sys.excepthook is _hook or hasattr(sys, "ps1"):
        return
    if isinstance(error, BaseException):
        _note_exception(type(error), error, error.__traceback__)


def _at_exit() -> None:
    _note_unseen_exception()
    outcome = _outcome or {"outcome": "clean", "exit_code": 0, "error_message": ""}
    writers = process.writers()
    for writer in writers:
        try:
            writer.exit(outcome)
        except Exception:  # lost just now; a killed writer says no more either
            continue
    if writers:
        delivery.drain_at_exit()
    lost = unkept_calls()
    if lost:
        say(f"{lost:,} log calls could not be kept, since there was no place for them")


def _forget() -> None:
    global _outcome
    _outcome = None
