"""The filter language as SQL over the summaries of runs.

Every name and value becomes a bound value; the text of the SQL is made of pieces of this module only. Each
expression is 0 or 1, never NULL: a run that has not what is asked for is one for which the comparison is
false.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from runstream_query.filter_fields import STATUS_BY_WORD, Field
from runstream_query.filter_grammar import Comparison, Every, Node, Not, Some
from runstream_query.filter_tokens import Token
from runstream_query.sql import Clause

STATUS: Final = "s_status"
STARTED: Final = "s_started"
ENDED: Final = "s_ended"
"""Columns that the search adds: what the leases of the moment make of the stored ones."""

_PLAIN_TEXT: Final = {
    "name": "r.name",
    "id": "r.run",
    "experiment": "toString(r.experiment)",
    "workspace": "toString(r.workspace)",
    "type": "toString(r.run_type)",
    "parent": "r.parent",
}
_ORDERED: Final = ("<", "<=", ">", ">=")


@dataclass(slots=True)
class Compiler:
    """Turns trees and fields into SQL, and collects their values."""

    now_ns: int
    """What `age` and the duration of running runs count to."""
    values: dict[str, object] = field(default_factory=dict)
    patterns: list[Token] = field(default_factory=list)
    """Regular expressions that were met."""

    def condition(self, node: Node | None) -> Clause:
        """The condition that a filter stands for."""
        return Clause(self._node(node), self.values) if node is not None else Clause()

    def bind(self, value: object, kind: str) -> str:
        """A placeholder for a value."""
        name = f"f{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{kind}}}"

    def _node(self, node: Node) -> str:
        match node:
            case Not(term):
                return f"NOT ({self._node(term)})"
            case Every(terms):
                return "(" + " AND ".join(map(self._node, terms)) + ")"
            case Some(terms):
                return "(" + " OR ".join(map(self._node, terms)) + ")"
            case Comparison(of, "", _):
                return self.exists(of)
            case Comparison(of, "!=", values):
                return f"NOT ({self._compare(of, '==', values[0])})"
            case Comparison(of, "in", values):
                return "(" + " OR ".join(self._compare(of, "==", value) for value in values) + ")"
            case Comparison(of, operator, values):
                return self._compare(of, operator, values[0])

    # ------------------------------------------------------------------------------- comparisons

    def _compare(self, of: Field, operator: str, value: Token) -> str:
        match of.type:
            case "status":
                number = self.bind(STATUS_BY_WORD[value.text.lower()], "UInt8")
                return f"{STATUS} = {number}"
            case "flag":
                return "r.archived = 1" if value.text.lower() == "true" else "r.archived = 0"
            case "time":
                bound = self.bind(value.time_ns, "Int64")
                return f"({self.exists(of)} AND {self.number(of)} {operator} {bound})"
            case "duration" | "number":
                return self._numbers(self.exists(of), self.number(of), operator, value.number)
            case "metric":
                if value.kind in ("text", "word"):
                    key = self.bind(of.key, "String")
                    return self._texts(
                        f"mapContains(r.metrics_text, {key})", f"r.metrics_text[{key}]", operator, value
                    )
                return self._numbers(self.exists_number(of), self.number(of), operator, value.number)
            case "text":
                if value.kind == "number":
                    return self._numbers(self.exists(of), self.number(of), operator, value.number)
                return self._texts(self.exists(of), self.text(of), operator, value)

    def _numbers(self, exists: str, number: str, operator: str, value: float) -> str:
        if math.isnan(value):
            return f"({exists} AND ifNull(isNaN({number}), 0))"
        return f"({exists} AND ifNull({number} {operator} {self.bind(value, 'Float64')}, 0))"

    def _texts(self, exists: str, text: str, operator: str, value: Token) -> str:
        if operator == "matches":
            self.patterns.append(value)
            return f"({exists} AND match({text}, {self.bind(value.text, 'String')}))"
        if operator == "contains":
            return (
                f"({exists} AND positionCaseInsensitiveUTF8({text}, {self.bind(value.text, 'String')}) > 0)"
            )
        if value.kind == "word" and value.text.lower() in ("true", "false"):
            text, bound = f"lower({text})", value.text.lower()
        else:
            bound = value.text
        return f"({exists} AND {text} {operator} {self.bind(bound, 'String')})"

    # ------------------------------------------------------------------------------------ fields

    def exists(self, of: Field) -> str:
        """Whether a run has the field."""
        if of.group == "metrics":
            return f"mapContains(r.metrics_count, {self.bind(of.key, 'String')})"
        if of.group:
            return f"mapContains(r.{of.group}, {self.bind(of.name, 'String')})"
        match of.name:
            case "status":
                return f"{STATUS} != 0"
            case "started" | "duration" | "age":
                return f"{STARTED} != 0"
            case "ended":
                return f"{ENDED} != 0"
            case "archived":
                return "r.archived = 1"
            case "attempts":
                return "r.attempts > 0"
            case "description":
                return "mapContains(r.system, 'description')"
            case name:
                return f"{_PLAIN_TEXT[name]} != ''"

    def exists_number(self, of: Field) -> str:
        """Whether a run has the field as a number: a metric may have nothing but texts."""
        if of.group == "metrics":
            return f"mapContains(r.metrics_{of.figure}, {self.bind(of.key, 'String')})"
        return self.exists(of)

    def text(self, of: Field) -> str:
        """The field as a text; empty when the run has it not."""
        if of.group == "metrics":
            return f"r.metrics_text[{self.bind(of.key, 'String')}]"
        if of.group:
            return f"ifNull(r.{of.group}[{self.bind(of.name, 'String')}], '')"
        if of.name == "description":
            return "ifNull(r.system['description'], '')"
        return _PLAIN_TEXT[of.name]

    def number(self, of: Field) -> str:
        """The field as a number, NULL-free only where it exists and is one: else NULL or 0."""
        if of.group == "metrics":
            return f"r.metrics_{of.figure}[{self.bind(of.key, 'String')}]"
        match of.name if not of.group else "":
            case "status":
                return STATUS
            case "started":
                return STARTED
            case "ended":
                return ENDED
            case "duration":
                now = self.bind(self.now_ns, "Int64")
                return f"((if({ENDED} != 0, {ENDED}, {now}) - {STARTED}) / 1e9)"
            case "age":
                return f"(({self.bind(self.now_ns, 'Int64')} - {STARTED}) / 1e9)"
            case "archived":
                return "r.archived"
            case "attempts":
                return "r.attempts"
            case _:
                return f"toFloat64OrNull({self.text(of)})"

    # ------------------------------------------------------------------------------------ orders

    def order(self, of: Field) -> Sequence[str]:
        """What a field is sorted by: its class, its number and its text.

        Classes are 0 number, 1 NaN, 2 text, 3 missing, and always sorted from the smallest.
        """
        if of.type == "text" and not of.group:
            return f"if({self.exists(of)}, 2, 3)", "0.", self.text(of)
        if of.type == "text":
            number = self.number(of)
            kind = f"multiIf(NOT {self.exists(of)}, 3, isNull({number}), 2, ifNull(isNaN({number}), 0), 1, 0)"
            plain = f"ifNull({number}, 0.)"
            text = f"if(isNull({number}), {self.text(of)}, '')"
            return kind, f"if(isNaN({plain}), 0., {plain})", text
        if of.type == "metric":
            number = f"toFloat64({self.number(of)})"
            key = self.bind(of.key, "String")
            has_text = f"mapContains(r.metrics_text, {key})" if of.figure == "last" else "0"
            kind = f"multiIf({self.exists_number(of)}, if(isNaN({number}), 1, 0), {has_text}, 2, 3)"
            text = f"if({self.exists_number(of)}, '', r.metrics_text[{key}])" if of.figure == "last" else "''"
            return kind, f"if(isNaN({number}), 0., {number})", text
        if of.type == "time":
            # Nanoseconds are not exact as a double.
            text = f"leftPad(toString({self.number(of)}), 20, '0')"
            return f"if({self.exists(of)}, 2, 3)", "0.", text
        return f"if({self.exists(of)}, 0, 3)", f"toFloat64({self.number(of)})", "''"
