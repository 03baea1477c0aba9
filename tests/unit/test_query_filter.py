"""The filter language: what it takes, and where it points when it does not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_query.filter_fields import Field
from runstream_query.filter_grammar import Comparison, Every, Not, Some, parse_field, parse_filter
from runstream_query.filter_sql import Compiler
from runstream_query.filter_tokens import FilterSyntaxError, quoted_name, quoted_text, tokens


def one(text: str) -> Comparison:
    """The only comparison of a filter."""
    tree = parse_filter(text)
    assert isinstance(tree, Comparison), tree
    return tree


@pytest.mark.parametrize(
    ("text", "group", "name", "figure", "column"),
    [
        ("metrics.loss < 1", "metrics", "loss", "last", ""),
        ("metrics.loss.min < 1", "metrics", "loss", "min", ""),
        ("Metric.val.acc.max < 1", "metrics", "val.acc", "max", ""),
        ("metrics.min < 1", "metrics", "min", "last", ""),
        ("metrics.train/loss-1.count < 1", "metrics", "train/loss-1", "count", ""),
        ("metrics.`a b.``c``.min`.first < 1", "metrics", "a b.`c`.min", "first", ""),
        ("metrics.roc[tpr].max < 1", "metrics", "roc", "max", "tpr"),
        ("metrics.`r o`[`t p`] < 1", "metrics", "r o", "last", "t p"),
        ("params.optimizer.lr == 0.1", "params", "optimizer.lr", "", ""),
        ("param.2nd == 1", "params", "2nd", "", ""),
        ("tags.`x` contains y", "tags", "x", "", ""),
        ("properties.p == q", "properties", "p", "", ""),
        ("host == gpu-1", "system", "host", "", ""),
        ("status == Running", "", "status", "", ""),
        ("START_TIME > 2026-01-31", "", "started", "", ""),
    ],
)
def test_fields(text: str, group: str, name: str, figure: str, column: str) -> None:
    field = one(text).field
    assert (field.group, field.name, field.figure, field.column) == (group, name, figure, column)


def test_values() -> None:
    def value(text: str) -> object:
        token = one(text).values[0]
        return {"number": token.number, "duration": token.number, "time": token.time_ns}.get(
            token.kind, token.text
        )

    assert value("metrics.a < -1.5e-3") == -1.5e-3
    assert value("metrics.a < 1_000") == 1000
    assert value("metrics.a < -inf") == -math.inf
    assert math.isnan(float(str(value("metrics.a == NaN"))))
    assert value("duration > 2h30m") == 9000
    assert value("duration > 1.5s") == 1.5
    assert value("age < 250ms") == 0.25
    assert value("started >= 2026-01-31") == 1_769_817_600 * 10**9
    assert value('started >= "2026-01-31T12:00:00.000000001+01:00"') == 1_769_857_200 * 10**9 + 1
    assert value(r"""name == 'it''s "\n' """) == "it's \"\n"
    assert value('params.model == "a\\"b"') == 'a"b'
    assert value("params.model == resnet-50/v2") == "resnet-50/v2"
    assert [token.text for token in one("status in (running, 'Failed')").values] == ["running", "Failed"]
    assert [token.number for token in one("params.n in [1, 2]").values] == [1, 2]


def test_structure() -> None:
    tree = parse_filter("not tags.a and (params.b == 1 or params.c not in (2)) and archived")
    assert isinstance(tree, Every)
    first, second, third = tree.terms
    assert isinstance(first, Not)
    assert isinstance(second, Some)
    assert isinstance(second.terms[1], Not)
    assert isinstance(third, Comparison)
    assert third.operator == ""
    assert parse_filter("  ") is None
    assert isinstance(parse_filter("archived or archived and archived"), Some)  # `and` binds closer


@pytest.mark.parametrize(
    ("text", "position", "length", "expected"),
    [
        ("metrics.loss <", 14, 0, "a number"),
        ("metrics.loss < and", 15, 3, "a number"),
        ("metric.loss ~ 1", 12, 1, None),
        ("loss < 1", 0, 4, "metrics.NAME"),
        ("metrics < 1", 8, 1, "."),
        ("metrics. loss < 1", 9, 4, "a name"),
        ("metrics.loss < 1 params.a == 2", 17, 6, "and"),
        ("(metrics.loss < 1", 17, 0, ")"),
        ("metrics.loss < 1)", 16, 1, "the end"),
        ("status == Done", 10, 4, "Completed"),
        ("status < Running", 9, 7, "=="),
        ("metrics.loss < 'low'", 15, 5, "a number"),
        ("metrics.loss < nan", 15, 3, "== nan"),
        ("metrics.loss.max matches 'x'", 25, 3, None),
        ("duration > soon", 11, 4, "5m"),
        ("started > 12", 10, 2, "2026-01-31"),
        ("started > 2026-13-01", 10, 10, None),
        ('name == "ab', 8, 3, '"'),
        ("params.`ab", 7, 3, "`"),
        ("name == `ab`", 8, 4, "a text in quotes"),
        ("params.a == params.b", 12, 6, "a text in quotes"),
        ("params.a in 1", 12, 1, "("),
        ("params.a in (1 2)", 15, 1, ","),
        ("params.a not 1", 13, 1, "in"),
        ("ñandú == 1", 0, 5, "status"),
        ("name == 'ñ' && x", 12, 1, None),
        ("archived == 1", 12, 1, "true"),
        ("attempts > many", 11, 4, "a number"),
        ("metrics.roc[", 12, 0, "the name of a column"),
        ("metrics.roc[a].median > 1", 15, 6, "min"),
    ],
)
def test_errors_point_at_the_character(text: str, position: int, length: int, expected: str | None) -> None:
    with pytest.raises(FilterSyntaxError) as caught:
        parse_filter(text)
    error = caught.value
    assert (error.position, error.length) == (position, length), str(error)
    if expected is not None:
        assert expected in error.expected, error.expected
    (detail,) = error.details
    assert (detail.position, detail.length, detail.subject) == (position, length, "filter")
    assert f"character {position + 1}:" in str(error)


def test_limits() -> None:
    for text in (
        "(" * 60 + "archived" + ")" * 60,
        "not " * 60 + "archived",
        "archived and " * 400 + "archived",
    ):
        with pytest.raises(FilterSyntaxError, match="more than"):
            parse_filter(text)
    with pytest.raises(FilterSyntaxError, match="characters"):
        parse_filter("x" * 10_001)
    with pytest.raises(FilterSyntaxError, match="list"):
        parse_filter(f"params.a in ({','.join(['1'] * 1_002)})")


def test_an_order_is_a_field_alone() -> None:
    assert parse_field("metrics.loss.min", "order_by[0]").figure == "min"
    with pytest.raises(FilterSyntaxError) as caught:
        parse_field("metrics.loss desc", "order_by[1]")
    assert (caught.value.subject, caught.value.position) == ("order_by[1]", 13)


def places_its_errors(text: str) -> None:
    """A text is a filter that has a meaning, or an error that lies in it."""
    failed: FilterSyntaxError | None = None
    try:
        Compiler(0).condition(parse_filter(text))
    except FilterSyntaxError as error:
        failed = error
    assert failed is None or 0 <= failed.position <= failed.position + failed.length <= len(text)


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_an_error_with_a_place_in_it(text: str) -> None:
    places_its_errors(text)


_PIECES = st.sampled_from(
    [
        *("metrics", "params", "tags", "status", "Running", "started", "archived", "min", "loss", "lr", "."),
        *("(", ")", "[", "]", ",", "and", "or", "not", "in", "==", "!=", "<", ">=", "matches", "contains"),
        *("1", "-2.5", "nan", "5m", "'x'", "`y`", "2026-01-01"),
    ]
)


@given(st.lists(_PIECES, max_size=14).map(" ".join))
def test_pieces_of_filters_are_filters_or_errors_with_a_place(text: str) -> None:
    places_its_errors(text)


@given(st.text(min_size=1, max_size=30))
def test_quoted_names_and_texts_come_back(text: str) -> None:
    assert one(f"params.{quoted_name(text)} == {quoted_text(text)}") == Comparison(
        Field("params", text, start=0, end=len(f"params.{quoted_name(text)}")),
        "==",
        (tokens(f"params.{quoted_name(text)} == {quoted_text(text)}")[-2],),
    )
    assert tokens(quoted_text(text))[0].text == text


@given(st.text(min_size=1, max_size=30), st.text(max_size=30))
def test_nothing_of_a_filter_is_in_the_sql(name: str, value: str) -> None:
    marked = f"zq{name}zq", f"zq{value}zq"
    compiler = Compiler(0)
    named, text = quoted_name(marked[0]), quoted_text(marked[1])
    clause = compiler.condition(parse_filter(f"params.{named} == {text} or metrics.{named} < 3"))
    assert "zq" not in clause.sql
    assert set(marked) <= set(compiler.values.values())
