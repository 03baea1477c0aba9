"""The filter language, letter by letter: from text to tokens.

Positions count characters (Unicode code points).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from runstream.v1 import query_service_pb2
from runstream_query.errors import InvalidArgument

MAX_CHARACTERS: Final = 10_000

Kind = Literal["word", "name", "text", "number", "duration", "time", "operator", "punctuation", "end"]

_UNITS_S: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION: Final = r"[-+]?(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+(?![\w.])"
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_TIME: Final = (
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[-+]\d{2}:?\d{2})?)?(?![\w.])"
)
_TOKEN: Final = re.compile(
    rf"""
    (?P<time>{_TIME})
  | (?P<duration>{_DURATION})
  | (?P<number>
        [-+]?(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])
      | [-+]?(?i:inf|infinity|nan)(?![\w./:@%-])
    )
  | (?P<operator>==|!=|<=|>=|<|>|=)
  | (?P<punctuation>[(),\[\].])
  | (?P<word>[^\W\d][\w/:@%-]*|\d[\w/:@%-]*)
    """,
    re.VERBOSE,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


class FilterSyntaxError(InvalidArgument):
    """A text that is no filter, order or column: with the place where it stops being one."""

    def __init__(
        self,
        message: str,
        position: int,
        length: int = 0,
        expected: Sequence[str] = (),
        subject: str = "filter",
    ) -> None:
        """
        :param position: characters before the place.
        :param length: characters that are wrong; 0 when something is missing there.
        :param expected: what might stand there.
        """
        self.message, self.position, self.length = message, position, length
        self.expected = tuple(expected)
        self.subject = subject
        wanted = f"; expected {_either(self.expected)}" if self.expected else ""
        super().__init__(f"{subject}, character {position + 1}: {message}{wanted}")

    def within(self, subject: str) -> FilterSyntaxError:
        """The same, in another part of the request."""
        return FilterSyntaxError(self.message, self.position, self.length, self.expected, subject)

    @property
    def details(self) -> Sequence[query_service_pb2.FilterError]:  # type: ignore[override]  # made when asked for
        """As a message."""
        return (self.to_message(),)

    def to_message(self) -> query_service_pb2.FilterError:
        """As it is sent."""
        return query_service_pb2.FilterError(
            subject=self.subject,
            position=self.position,
            length=self.length,
            message=self.message,
            expected=self.expected[:20],
        )


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a filter."""

    kind: Kind
    """`word` is a bare word, `name` stood in backticks, `text` in quotes."""
    text: str
    """As it means: without quotes."""
    start: int
    end: int
    """One more than the position of its last character."""
    number: float = 0.0
    """Of a number; of a duration in seconds."""
    time_ns: int = 0
    """Of a time: Unix nanoseconds."""

    @property
    def length(self) -> int:
        """Its characters in the filter."""
        return self.end - self.start


def tokens(text: str) -> list[Token]:
    """The tokens of a filter; the last is of kind `end`.

    :raises FilterSyntaxError: something is no token.
    """
    if len(text) > MAX_CHARACTERS:
        raise FilterSyntaxError(
            f"a filter of {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken", MAX_CHARACTERS
        )
    found: list[Token] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            found.append(Token("end", "", at, at))
            return found
        token = _quoted(text, at) if text[at] in "'\"`" else _plain(text, at)
        found.append(token)
        at = token.end


def _quoted(text: str, start: int) -> Token:
    quote = text[start]
    parts: list[str] = []
    at = start + 1
    while at < len(text):
        if text[at] == quote:
            if text[at + 1 : at + 2] != quote:
                kind: Kind = "name" if quote == "`" else "text"
                return Token(kind, "".join(parts), start, at + 1)
            at += 1  # doubled: it stands for itself
        elif text[at] == "\\" and quote != "`" and at + 1 < len(text):
            at += 1
            parts.append(_ESCAPES.get(text[at], text[at]))
            at += 1
            continue
        parts.append(text[at])
        at += 1
    what = "name" if quote == "`" else "text"
    raise FilterSyntaxError(f"the {what} that begins here does not end", start, len(text) - start, [quote])


def _plain(text: str, start: int) -> Token:
    match = _TOKEN.match(text, start)
    if match is None:
        raise FilterSyntaxError(f"{text[start]!r} means nothing here", start, 1)
    found, end = match[0], match.end()
    match match.lastgroup:
        case "time":
            return Token("time", found, start, end, time_ns=time_ns(found, start))
        case "duration":
            return Token("duration", found, start, end, number=duration_s(found))
        case "number":
            return Token("number", found, start, end, number=float(found.lower().replace("_", "")))
        case "operator":
            return Token("operator", "==" if found == "=" else found, start, end)
        case "punctuation":
            return Token("punctuation", found, start, end)
        case _:
            return Token("word", found, start, end)


def duration_s(text: str) -> float:
    """Seconds of a duration such as `2h30m`."""
    total = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    return -total if text.startswith("-") else total


def time_ns(text: str, position: int = 0) -> int:
    """Unix nanoseconds of a time in ISO 8601; without a zone it is UTC.

    :raises FilterSyntaxError: there is no such time.
    """
    whole, fraction = text, ""
    if match := re.search(r"\.(\d{1,9})", text):
        whole, fraction = text.replace(match[0], ""), match[1]
    try:
        moment = datetime.fromisoformat(whole)
    except ValueError:
        raise FilterSyntaxError(f"{text!r} is no time", position, len(text)) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + int(fraction.ljust(9, "0") or "0")


def quoted_name(name: str) -> str:
    """A name as it is written in a filter, in backticks where it needs them."""
    if _TOKEN.fullmatch(name) and _plain(name, 0).kind == "word":
        return name
    return "`" + name.replace("`", "``") + "`"


def quoted_text(text: str) -> str:
    """A text as it is written in a filter."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for letter, character in _ESCAPES.items():
        escaped = escaped.replace(character, "\\" + letter)
    return f'"{escaped}"'


def _either(choices: Sequence[str]) -> str:
    shown = [
        f"`{choice}`" if not choice[:1].isalpha() and len(choice) < 4 else choice for choice in choices[:8]
    ]
    if len(choices) > len(shown):
        shown.append("…")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
