"""Cuts what is printed into pieces worth keeping: whole lines, and of progress bars a picture at times."""

from typing import Final

_LONG: Final = 8 << 10  # characters of an unfinished line that are not held back any longer
_PICTURE_S: Final = 1.0  # between two pictures of an unfinished line


class Lines:
    """One stream. Not safe for threads.

    A carriage return draws a line anew. Of what such a line showed while it was unfinished only the newest
    state is held, and given out once a second; whoever prints the pieces sees the line move.
    """

    def __init__(self) -> None:
        self._held = ""
        self._shown = False  # a state of the unfinished line was given out
        self._redraws = False  # what is held replaces that state
        self._since = 0.0

    def feed(self, text: str, now: float) -> str:
        """Take what was printed; give what is to be kept now. `now`: seconds, of a clock that never falls."""
        end = text.rfind("\n")
        out = ""
        if end >= 0:
            out = self._finish(text[: end + 1])
            text = text[end + 1 :]
            self._since = now
        if text:
            if not self._held:
                self._since = max(self._since, now - _PICTURE_S) if self._shown else now
            self._hold(text)
            if len(self._held) > _LONG or now - self._since >= _PICTURE_S:
                out += self.rest()
                self._shown = True
                self._since = now
        return out

    def rest(self) -> str:
        """What is held, though its line is unfinished."""
        out = ("\r" if self._redraws and self._shown else "") + self._held
        self._held, self._redraws = "", False
        return out

    def _hold(self, text: str) -> None:
        self._held += text
        if "\r" in self._held:
            self._held, redrawn = _newest(self._held)
            self._redraws = self._redraws or redrawn

    def _finish(self, text: str) -> str:
        """Whole lines, with what is held in front of the first."""
        if not self._held and not self._shown and "\r" not in text:
            return text
        first, _, others = text.partition("\n")
        self._hold(first)
        out = [self.rest() + "\n"]
        self._shown = False
        if "\r" in others:
            others = "\n".join(_newest(line)[0] if "\r" in line else line for line in others.split("\n"))
        return "".join((*out, others))


def _newest(line: str) -> tuple[str, bool]:
    """What a line shows last, and whether that replaces what stood there before. Ends of lines stay."""
    ending = line[len(line.rstrip("\r\n")) :]
    states = line[: len(line) - len(ending)].split("\r")
    return states[-1] + ending, len(states) > 1
