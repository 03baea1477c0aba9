"""The filter language, sentence by sentence: from tokens to a tree.

::

    filter     = [ or ]
    or         = and { "or" and }
    and        = not { "and" not }
    not        = "not" not | "(" or ")" | comparison
    comparison = field [ operator value | [ "not" ] "in" list ]
    operator   = "==" | "!=" | "<" | "<=" | ">" | ">=" | "matches" | "contains"
    list       = ( "(" | "[" ) value { "," value } ( ")" | "]" )
    field      = group "." name [ "[" column "]" ] [ "." figure ] | plain
    value      = text | number | duration | time | word

A field alone asks whether the run has it. A recursive descent: each rule is a method, and knows what it
expected where it gives up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from runstream_query.filter_fields import (
    ALIASES,
    FIGURES,
    GROUPS,
    PLAIN,
    STATUS_BY_WORD,
    STATUSES,
    SYSTEM,
    Field,
)
from runstream_query.filter_tokens import FilterSyntaxError, Token, time_ns, tokens

COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=", "in", "matches", "contains")
KEYWORDS: Final = frozenset(("and", "or", "not", "in", "matches", "contains"))
_MAX_DEPTH: Final = 50
_MAX_COMPARISONS: Final = 300
_MAX_LIST: Final = 1_000
_FIELDS: Final = (*(f"{group}.NAME" for group in GROUPS), *PLAIN)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field compared with values. Without an operator: the run has it."""

    field: Field
    operator: str = ""
    values: tuple[Token, ...] = ()
    """One, or for `in` one or more."""


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    term: Node


@dataclass(frozen=True, slots=True)
class Every:
    """All hold."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one holds."""

    terms: tuple[Node, ...]


Node = Comparison | Not | Every | Some


def parse_filter(text: str) -> Node | None:
    """The tree of a filter; None when it is empty.

    :raises FilterSyntaxError: it is no filter.
    """
    return _Parser(tokens(text)).filter()


def parse_start(text: str) -> tuple[Field | None, FilterSyntaxError | None]:
    """How far the beginning of a filter can be read.

    Gives the last field in it, if it is what the text ends with or what waits for a value, and the error that
    tells what is missing; None when nothing has to follow.
    """
    try:
        parser = _Parser(tokens(text))
    except FilterSyntaxError as error:
        return None, error
    try:
        parser.filter()
    except FilterSyntaxError as error:
        return parser.last_field, error
    field = parser.last_field
    return (field if field is not None and field.end == len(text.rstrip()) else None), None


def fields_of(node: Node | None) -> Iterator[Field]:
    """The fields that a filter names."""
    match node:
        case Comparison(field, _, _):
            yield field
        case Not(term):
            yield from fields_of(term)
        case Every(terms) | Some(terms):
            for term in terms:
                yield from fields_of(term)


def parse_field(text: str, subject: str) -> Field:
    """A field that stands alone, as in an order.

    :raises FilterSyntaxError: it is none.
    """
    try:
        parser = _Parser(tokens(text))
        field = parser.field()
        parser.end(())
        return field
    except FilterSyntaxError as error:
        raise error.within(subject) from None


class _Parser:
    def __init__(self, found: Sequence[Token]) -> None:
        self._tokens = found
        self._at = 0
        self._depth = 0
        self._comparisons = 0
        self.last_field: Field | None = None

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        self._at += 1
        return token

    def _keyword(self, *words: str) -> bool:
        token = self._next
        return token.kind == "word" and token.text.lower() in words

    def _punctuation(self, *characters: str) -> bool:
        return self._next.kind == "punctuation" and self._next.text in characters

    def _fail(self, message: str, *expected: str, token: Token | None = None) -> FilterSyntaxError:
        token = token or self._next
        return FilterSyntaxError(message, token.start, token.length, expected)

    def _surprise(self, *expected: str) -> FilterSyntaxError:
        token = self._next
        what = "it ends too early" if token.kind == "end" else f"{token.text!r} does not fit here"
        return self._fail(what, *expected)

    # ------------------------------------------------------------------------------------ rules

    def filter(self) -> Node | None:
        if self._next.kind == "end":
            return None
        node = self._or()
        self.end(("and", "or"))
        return node

    def end(self, expected: Sequence[str]) -> None:
        if self._next.kind != "end":
            raise self._surprise(*expected, "the end")

    def _or(self) -> Node:
        terms = [self._and()]
        while self._keyword("or"):
            self._take()
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else Some(tuple(terms))

    def _and(self) -> Node:
        terms = [self._not()]
        while self._keyword("and"):
            self._take()
            terms.append(self._not())
        return terms[0] if len(terms) == 1 else Every(tuple(terms))

    def _not(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._fail(f"more than {_MAX_DEPTH} levels of `not` and parentheses")
        try:
            if self._keyword("not"):
                self._take()
                return Not(self._not())
            if self._punctuation("("):
                self._take()
                node = self._or()
                if not self._punctuation(")"):
                    raise self._surprise(")", "and", "or")
                self._take()
                return node
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Node:
        self._comparisons += 1
        if self._comparisons > _MAX_COMPARISONS:
            raise self._fail(f"more than {_MAX_COMPARISONS} comparisons")
        field = self.last_field = self.field()
        token = self._next
        if token.kind == "operator" or self._keyword("in", "matches", "contains"):
            operator = self._take().text.lower()
            if operator == "in":
                return self._checked(Comparison(field, operator, self._list(field)))
            return self._checked(Comparison(field, operator, (self._value(field),)))
        if self._keyword("not"):
            self._take()
            if not self._keyword("in", "matches", "contains"):
                raise self._surprise("in", "matches", "contains")
            operator = self._take().text.lower()
            values = self._list(field) if operator == "in" else (self._value(field),)
            return Not(self._checked(Comparison(field, operator, values)))
        if token.kind == "end" or self._punctuation(")") or self._keyword("and", "or"):
            return Comparison(field)
        raise self._surprise(*operators_of(field))

    def field(self) -> Field:
        token = self._next
        if token.kind != "word" or token.text.lower() in KEYWORDS:
            raise self._surprise(*_FIELDS)
        word = ALIASES.get(token.text.lower(), token.text.lower())
        if word in GROUPS:
            self._take()
            return self._named(word, token)
        if word in SYSTEM:
            self._take()
            return Field("system", word, start=token.start, end=token.end)
        if word not in PLAIN:
            raise self._fail(f"there is no field {token.text!r}", *_FIELDS)
        self._take()
        return Field("", word, start=token.start, end=token.end)

    def _named(self, group: str, first: Token) -> Field:
        """A field with a name of the users' own; the names of some contain dots."""
        parts: list[Token] = []
        while not parts or self._punctuation("."):
            if not self._punctuation("."):
                raise self._surprise(".")
            dot = self._take()
            if self._next.start != dot.end or self._next.kind not in ("word", "name", "number", "duration"):
                raise self._fail(
                    f"a name in {group} is missing after the dot", "a name", "a name in `backticks`"
                )
            parts.append(self._take())
        column = figure = ""
        if group == "metrics":
            if self._punctuation("["):
                column = self._column()
                if self._punctuation("."):
                    self._take()
                    if not self._keyword(*FIGURES):
                        raise self._surprise(*FIGURES)
                    figure = self._take().text.lower()
            elif len(parts) > 1 and parts[-1].kind == "word" and parts[-1].text.lower() in FIGURES:
                figure = parts.pop().text.lower()
            elif len(parts) > 1 and parts[0].kind == "name":
                raise self._fail(f"a metric has no {parts[-1].text!r}", *FIGURES, token=parts[-1])
        name = ".".join(part.text for part in parts)
        if not name:
            raise self._fail("a name is not empty", "a name", token=parts[0])
        end = self._tokens[self._at - 1].end
        return Field(group, name, figure or ("last" if group == "metrics" else ""), column, first.start, end)

    def _column(self) -> str:
        self._take()
        if self._next.kind not in ("word", "name", "text"):
            raise self._surprise("the name of a column")
        column = self._take().text
        if not self._punctuation("]"):
            raise self._surprise("]")
        self._take()
        return column

    def _list(self, field: Field) -> tuple[Token, ...]:
        if not self._punctuation("(", "["):
            raise self._surprise("(")
        close = ")" if self._take().text == "(" else "]"
        values = [self._value(field)]
        while self._punctuation(","):
            self._take()
            values.append(self._value(field))
            if len(values) > _MAX_LIST:
                raise self._fail(f"a list of more than {_MAX_LIST:,} values")
        if not self._punctuation(close):
            raise self._surprise(",", close)
        self._take()
        return tuple(values)

    def _value(self, field: Field) -> Token:
        token = self._next
        if token.kind == "word":
            after = self._tokens[self._at + 1]
            if after.kind == "punctuation" and after.text == "." and after.start == token.end:
                raise self._fail(
                    "a field is compared with a value; put quotes around a text", *values_of(field)
                )
            if token.text.lower() in KEYWORDS:
                raise self._surprise(*values_of(field))
            return self._take()
        if token.kind in ("text", "number", "duration", "time"):
            return self._take()
        if token.kind == "name":
            raise self._fail("backticks are for names of fields; put quotes around a text", *values_of(field))
        raise self._surprise(*values_of(field))

    # ----------------------------------------------------------------------------------- checks

    def _checked(self, found: Comparison) -> Comparison:
        """Checks that values and operator mean something for the field, and turns texts into what they are
        there."""
        values = tuple(self._fitting(found.field, found.operator, value) for value in found.values)
        return Comparison(found.field, found.operator, values)

    def _fitting(self, field: Field, operator: str, value: Token) -> Token:
        if operator in ("matches", "contains"):
            if field.type not in ("text", "metric") or (field.type == "metric" and field.figure != "last"):
                raise self._fail(f"`{operator}` is for texts; {name_of(field)} is none", token=value)
            if value.kind not in ("text", "word"):
                return Token("text", value.text, value.start, value.end)
            return value
        ordered = operator not in ("==", "!=", "in")
        if value.kind == "number" and math.isnan(value.number) and ordered:
            raise self._fail("nothing is less or greater than NaN", "== nan", "!= nan", token=value)
        match field.type:
            case "status":
                if ordered:
                    raise self._fail("statuses have no order", "==", "!=", "in", token=value)
                if value.kind not in ("text", "word") or value.text.lower() not in STATUS_BY_WORD:
                    raise self._fail(f"there is no status {value.text!r}", *STATUSES, token=value)
            case "flag":
                if ordered or value.text.lower() not in ("true", "false"):
                    raise self._fail(f"{name_of(field)} is true or false", "true", "false", token=value)
            case "time":
                if value.kind == "text":
                    found = time_ns(value.text, value.start)
                    return Token("time", value.text, value.start, value.end, time_ns=found)
                if value.kind != "time":
                    raise self._fail(
                        f"{name_of(field)} is a time", "2026-01-31", '"2026-01-31T12:00:00Z"', token=value
                    )
            case "duration":
                if value.kind not in ("duration", "number"):
                    raise self._fail(f"{name_of(field)} is a duration", "5m", "2h30m", "seconds", token=value)
            case "number":
                if value.kind != "number":
                    raise self._fail(f"{name_of(field)} is a number", "a number", token=value)
            case "metric":
                if value.kind in ("time",):
                    raise self._fail(f"{name_of(field)} is a number", "a number", token=value)
                if value.kind in ("text", "word") and (ordered or field.figure != "last"):
                    raise self._fail(f"{name_of(field)} is a number", "a number", token=value)
        return value


def name_of(field: Field) -> str:
    """A field as people call it."""
    return f"{field.group}.{field.name}" if field.group else field.name


def operators_of(field: Field) -> tuple[str, ...]:
    """The operators that mean something for a field."""
    match field.type:
        case "status":
            return ("==", "!=", "in")
        case "flag":
            return ("==", "!=")
        case "text":
            return COMPARISONS
        case "metric" if field.figure == "last":
            return COMPARISONS
        case _:
            return COMPARISONS[:7]


def values_of(field: Field) -> tuple[str, ...]:
    """What a value of a field looks like."""
    match field.type:
        case "status":
            return tuple(STATUSES)
        case "flag":
            return ("true", "false")
        case "time":
            return ("2026-01-31", '"2026-01-31T12:00:00Z"')
        case "duration":
            return ("5m", "2h30m", "seconds")
        case "number":
            return ("a number",)
        case "metric":
            return ("a number", "nan", "inf")
        case _:
            return ("a number", "a text in quotes")
