"""How this process ends, as its writers tell it: clean, by an exception, interrupted.

`atexit` runs in all three cases and knows none of them. An unhandled exception passes `sys.excepthook`.
SystemExit passes nothing; but the interpreter asks it for its code, which it does only when nobody caught it.
So `sys.exit`, `exit` and `quit` raise one that notices who asks; in a script's own `raise SystemExit(1)` the
attribute `code` of the class itself is replaced by one that does. (Where an interpreter does not allow that,
such an end is taken for a plain one, unless it leaves a `with run`.) A process that is killed, or ends by
`os._exit`, says nothing; its sender sees that the lock is free.
"""

import atexit
import builtins
import gc
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NoReturn

from runstream.capture import console
from runstream.core import delivery
from runstream.core.notices import say
from runstream.core.state import unkept_calls
from runstream.spool import process
from runstream.spool.cancel import canceled_runs

_MAX_MESSAGE: Final = 30_000

_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]

_before: Final[list[Callable[[], None]]] = []

_installed = False
_hook: _Hook | None = None  # as it was set here
_outcome: dict[str, object] | None = None  # the last that was noticed
_code: Final = SystemExit.__dict__["code"]


def _get_code(error: SystemExit) -> Any:
    found = _code.__get__(error, type(error))
    if sys._getframe().f_back is None:  # asked by the interpreter, not by Python code that caught it
        _note_exit(found)
    return found


def _set_code(error: SystemExit, value: Any) -> None:
    _code.__set__(error, value)


_observed: Final = property(_get_code, _set_code)


class ObservedExit(SystemExit):
    """A SystemExit that knows whether it ended the interpreter."""

    code = _observed


def install() -> None:
    """Watch this process's end. Does nothing the second time."""
    global _installed, _hook
    if _installed:
        return
    _installed = True
    _hook = sys.excepthook = _watch_exceptions(sys.excepthook)
    sys.exit = _exit
    _watch_quitter(getattr(builtins, "exit", None))  # `quit` is of the same class
    _watch_system_exit()
    process.on_fork(_forget)
    atexit.register(_at_exit)


def _watch_system_exit() -> None:
    """Replace the attribute `code` of SystemExit, where that can be done.

    The class refuses assignments, so its dictionary is changed. Both attributes live as long as the process:
    whatever an interpreter remembers of the class stays good.
    """
    for content in gc.get_referents(SystemExit.__dict__):
        if type(content) is dict and content.get("code") is _code:
            content["code"] = _observed
            try:
                works = SystemExit.__dict__["code"] is _observed and SystemExit(7).code == 7
            except Exception:
                works = False
            if not works:
                content["code"] = _code


def before_exit(action: Callable[[], None]) -> None:
    """Have something done before this process says how it ended."""
    if action not in _before:
        _before.append(action)


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
        asked = [run for writer in process.writers() for run in canceled_runs(writer.folder.path)]
        if asked:
            say(f"somebody asked for the end of {', '.join(asked)}")
        message = "canceled on request" if asked else "KeyboardInterrupt"
        _outcome = {"outcome": "interrupted", "exit_code": 130, "error_message": message}
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
    for action in _before:
        try:
            action()
        except Exception as error:
            say(f"at the end of the process: {error!r}")
    outcome = _outcome or {"outcome": "clean", "exit_code": 0, "error_message": ""}
    console.settle()
    writers = process.writers()
    for writer in writers:
        try:
            writer.console.tell_left_out()
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
