"""What may be logged, what it is kept as, and what is refused."""

import datetime
import decimal
import fractions
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runstream import Experiment, Run, Workspace
from runstream.core import delivery, notices
from runstream.errors import RunstreamError, UserError
from runstream.exceptions import AzureMLException, UserErrorException
from runstream.spool import process
from tests import spools


@pytest.fixture(params=("mmap", "append"))
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run in a spool of its own, in this process, without a sender."""
    for name in ("RUNSTREAM_SERVER", "RUNSTREAM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUNSTREAM_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("RUNSTREAM_SPOOL_ENGINE", request.param)
    monkeypatch.setattr(delivery, "nudge_sender", lambda **_: None)
    monkeypatch.setattr(process, "_writers", {})
    monkeypatch.setattr(process, "_all", [])
    return Experiment(Workspace(workspace_name="test"), "values").start_logging(outputs=False)


def kept() -> spools.Spool:
    (writer,) = process.writers()
    return spools.read(Path(writer.folder.path))


class Whole:
    def __index__(self) -> int:
        return 7


class Scalar:
    def item(self) -> float:
        return 2.5


class Text(str):
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, 0.5),
        (-0.0, -0.0),
        (1e308 * 10, math.inf),
        (-math.inf, -math.inf),
        (5e-324, 5e-324),
        (3, 3),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, 2**63),
        (-(10**5000), -(10**5000)),
        (2**53 + 1, 2**53 + 1),
        (True, True),
        (False, False),
        (None, None),
        ("text", "text"),
        ("", ""),
        ("a\x00b\n", "a\x00b\n"),
        ("\ud800x", "\ufffdx"),
        (Text("own"), "own"),
        (np.float16(0.5), 0.5),
        (np.float32(0.25), 0.25),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.5), 0.5),
        (np.int8(-3), -3),
        (np.uint8(255), 255),
        (np.int64(2**62), 2**62),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("np"), "np"),
        (np.array(4), 4),
        (np.array([[2.5]]), 2.5),
        (np.datetime64("2026-07-30"), "2026-07-30"),
        (decimal.Decimal("0.5"), 0.5),
        (fractions.Fraction(1, 4), 0.25),
        (datetime.datetime(2026, 7, 30, 1, 2, 3), "2026-07-30T01:02:03"),
        (datetime.date(2026, 7, 30), "2026-07-30"),
        (Whole(), 7),
        (Scalar(), 2.5),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_a_scalar_keeps_value_and_type(run: Run, value: object, expected: object) -> None:
    sys.set_int_max_str_digits(0)
    run.log("x", value)
    run.log_list("list", [value, "other"])
    run.log_row("row", cell=value)
    spool = kept()
    for found in (
        *spool.values("x"),
        spool.values("list")[0],
        *spool.values("row", column="cell"),
    ):
        assert found == expected
        assert type(found) is type(expected)
        if isinstance(expected, float) and isinstance(found, float):
            assert math.copysign(1, found) == math.copysign(1, expected)


def test_nan_is_kept(run: Run) -> None:
    run.log("x", math.nan)
    run.log("x", np.float32("nan"))
    run.log_list("x", [math.nan, 1])
    assert [math.isnan(value) for value in kept().values("x")] == [True, True, True, False]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, 2), "(1, 2)"),
        ({"a": 1}, "{'a': 1}"),
        (b"bytes", "b'bytes'"),
        (1 + 2j, "(1+2j)"),
        (np.array([1, 2]), "array([1, 2])"),
        (datetime.timedelta(1), "datetime.timedelta(days=1)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_are_logged_as_text_with_a_warning(
    run: Run, caplog: pytest.LogCaptureFixture, value: object, text: str
) -> None:
    run.log("x", value)
    assert kept().values("x") == [text]
    assert "logged as text" in caplog.text


@pytest.mark.parametrize("value", [[1, 2], range(3), (i for i in range(3)), iter([1])])
def test_log_points_to_log_list(run: Run, value: object) -> None:
    with pytest.raises(UserErrorException, match="log_list"):
        run.log("x", value)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0), (-5, -5), (2**63 - 1, 2**63 - 1), (np.int32(3), 3), (np.uint8(9), 9), (4.0, 4), (True, 1)],
)
def test_steps(run: Run, step: Any, expected: int) -> None:
    run.log("x", 1.0, step=step)
    run.log("x", 1.0, step=step)
    run.log("text", "t", step=step)
    assert [call.step for call in kept().calls.values() if call.elements] == [expected] * 3


@pytest.mark.parametrize("step", ["3", 1.5, 2**63, -(2**63), [1], object()])
@pytest.mark.parametrize("value", [1.0, 1, "t"])
def test_steps_that_are_none(run: Run, step: Any, value: Any) -> None:
    with pytest.raises(UserErrorException):
        run.log("x", value, step=step)
    run.log("x", value, step=1)
    with pytest.raises(UserErrorException):
        run.log("x", value, step=step)
    assert kept().values("x") == [value]
    assert kept().empty == []


@pytest.mark.parametrize("name", ["", None, 3, b"x", ["x"], "x" * 1001])
def test_names_that_are_none(run: Run, name: Any) -> None:
    for call in (
        lambda: run.log(name, 1.0),
        lambda: run.log_list(name, [1]),
        lambda: run.log_row(name, a=1),
        lambda: run.log_table(name, {"a": 1}),
    ):
        with pytest.raises(UserError):
            call()


def test_names_are_kept_exactly(run: Run) -> None:
    names = ["with space ", "ünïcode", "a/b", "x" * 1000, "\ud800", "'; drop table"]
    for name in names:
        run.log(name, 1.0)
        run.log(name, 2.0)
        cells: dict[str, Any] = {"column " + name[:900]: 1}
        run.log_row(name, **cells)
    spool = kept()
    for name in names:
        clean = name.replace("\ud800", "\ufffd")
        assert spool.values(clean) == [1.0, 2.0]
        assert spool.values(clean, column="column " + clean[:900]) == [1]


def test_descriptions(run: Run) -> None:
    run.log("x", 1.0, "first")
    run.log("x", 2.0)
    run.log("x", 3, description="second")
    run.log_row("r", "of a row", a=1)
    run.log_list("l", [1], None)  # type: ignore[arg-type]
    run.log("long", 1, "d" * 10_000)
    spool = kept()
    assert spool.values("x") == [1.0, 2.0, 3]
    described = {(s["metric"], s["description"]) for s in spool.series.values()}
    assert described >= {("x", "first"), ("x", ""), ("x", "second"), ("r", "of a row"), ("l", "")}
    assert max(len(s["description"]) for s in spool.series.values()) == 5000


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: [1.0, 2.5], [1.0, 2.5]),
        (lambda: (1, 2), [1, 2]),
        (lambda: [True, False], [True, False]),
        (lambda: range(3), [0, 1, 2]),
        (lambda: (i * i for i in range(4)), [0, 1, 4, 9]),
        (lambda: {"only": 1}.values(), [1]),
        (lambda: np.arange(3), [0, 1, 2]),
        (lambda: np.arange(3, dtype=np.uint8), [0, 1, 2]),
        (lambda: np.array([2**64 - 1, 0], np.uint64), [2**64 - 1, 0]),
        (lambda: np.array([1, 2], np.uint64), [1, 2]),
        (lambda: np.array([0.5, 1.5], np.float32), [0.5, 1.5]),
        (lambda: np.array([0.5, 1.5], ">f8"), [0.5, 1.5]),
        (lambda: np.arange(10)[::3], [0, 3, 6, 9]),
        (lambda: np.array([True, False]), [True, False]),
        (lambda: np.array(["a", "bc"]), ["a", "bc"]),
        (lambda: np.array([1, "a", None], object), [1, "a", None]),
        (lambda: np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (lambda: np.array(5), [5]),
        (lambda: [np.float64(0.5), 1.5], [0.5, 1.5]),
        (lambda: [np.int64(1), 2.5, "x", None, 2**70], [1, 2.5, "x", None, 2**70]),
        (lambda: [1, 2.5], [1, 2.5]),
        (lambda: [2**63], [2**63]),
        (lambda: ["", "ü", "\ud800"], ["", "ü", "\ufffd"]),
    ],
)
def test_lists(run: Run, make: Callable[[], Any], expected: list[Any]) -> None:
    run.log_list("l", make())
    found = kept().values("l")
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize("value", ["abc", b"abc", 3, None, 2.5, {"a": 1}])
def test_what_is_no_list(run: Run, value: Any) -> None:
    with pytest.raises(UserErrorException):
        run.log_list("l", value)


@pytest.mark.parametrize("value", [[[1]], [1, (2,)], [{}], np.zeros((2, 2)), [object()], [b"x"]])
def test_elements_that_are_none(run: Run, value: Any) -> None:
    with pytest.raises(AzureMLException):
        run.log_list("l", value)
    assert kept().values("l") == []


def test_a_generator_that_fails_logs_nothing(run: Run) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run.log_list("l", numbers())
    assert kept().values("l") == []


def test_tables_and_rows(run: Run) -> None:
    run.log_row("t", a=1, b="x")
    run.log_table("t", {"a": [2, 3], "b": np.array([0.5, 1.5])})
    run.log_table("t", {"a": 4, "b": None})
    run.log_table("t", {"a": (i for i in [5]), 3: ["c"]})  # type: ignore[dict-item]
    run.log_table("t", {"a": "text"})
    spool = kept()
    assert spool.values("t", column="a") == [1, 2, 3, 4, 5, "text"]
    assert spool.values("t", column="b") == ["x", 0.5, 1.5, None]
    assert spool.values("t", column="3") == ["c"]
    rows = [
        {(column, idx) for _, column, idx, _ in call.elements}
        for call in spool.calls.values()
        if call.elements
    ]
    assert rows[0] == {("a", 0), ("b", 0)}
    assert rows[1] == {("a", 0), ("a", 1), ("b", 0), ("b", 1)}


def test_tables_that_are_none(run: Run) -> None:
    with pytest.raises(UserErrorException):
        run.log_table("t", [1, 2])  # type: ignore[arg-type]
    with pytest.raises(AzureMLException):
        run.log_table("t", {"a": [1, 2], "b": [1]})
    with pytest.raises(UserErrorException):
        run.log_table("t", {"": [1]})
    with pytest.raises(UserErrorException):
        run.log_row("t", None, **{"": 1})
    with pytest.raises(AzureMLException):
        run.log_row("t", a=[1, 2])
    with pytest.raises(AzureMLException):
        run.log_row("t", a={"b": 1})
    with pytest.raises(RunstreamError):
        run.log_table("t", {"a": [[1]]})
    assert [call for call in kept().calls.values() if call.elements] == []


def test_empty_ones_leave_a_declaration(run: Run) -> None:
    run.log_list("l", [])
    run.log_list("n", np.array([]))
    run.log_table("t", {})
    run.log_table("c", {"a": [], "b": ()})
    run.log_row("r")
    elements = [element for _, call in sorted(kept().calls.items()) for element in call.elements]
    assert elements == [
        ("l", "", -1, "DECLARATION"),
        ("n", "", -1, "DECLARATION"),
        ("t", "", -1, "TABLE"),
        ("c", "a", -1, "DECLARATION"),
        ("c", "b", -1, "DECLARATION"),
        ("r", "", -1, "TABLE"),
    ]


def test_an_array_may_change_after_the_call(run: Run) -> None:
    array = np.zeros(1000)
    run.log_list("l", array)
    array[:] = 1
    assert kept().values("l") == [0.0] * 1000


def test_tags(run: Run) -> None:
    run.tag("a")
    run.tag("b", "text")
    run.tag("Competition Rank", 1)
    for key in (None, "", 3, "x" * 1001):
        with pytest.raises(UserErrorException):
            run.tag(key)  # type: ignore[arg-type]
    found = [(event["kind"], event["key"], event["value"]) for event in kept().events(18)]
    assert found == [("tag", "a", None), ("tag", "b", "text"), ("tag", "Competition Rank", "1")]


def test_fail_takes_texts_and_exceptions(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "drain_at_complete", lambda: None)
    with pytest.raises(TypeError):
        run.fail(3)  # type: ignore[arg-type]
    try:
        raise ValueError("the reason")
    except ValueError as error:
        run.fail(error)
    (event,) = kept().events(17)
    assert event["status"] == "Failed"
    assert event["error_code"] == "UserError"
    assert "ValueError: the reason" in event["error_message"]
    assert "Traceback" in event["error_message"]


def test_numpy_is_not_imported_for_a_script_without_it(tmp_path: Path) -> None:
    spools.run(
        tmp_path,
        "mmap",
        """
run = experiment.start_logging(outputs=False)
run.log("x", 1.0); run.log_list("l", [1, 2.5]); run.log_table("t", {"a": [1]}); run.complete()
run.get_portal_url()
assert not {"numpy", "grpc", "google", "google.protobuf"} & set(sys.modules), "something heavy was loaded"
""",
    )


def test_a_text_over_the_limit_is_counted_and_said(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_said", set())
    run.log("s", "z" * (2 << 20))
    run.log("s", "z" * ((2 << 20) + 1))
    run.log_list("l", ["a", "z" * (3 << 20), "b"])  # as a whole, so that no index moves
    (writer,) = process.writers()
    assert writer.dropped_counts() == {"0": 2}
    (line,) = capsys.readouterr().err.splitlines()  # once, or a loop would fill the terminal
    assert "'s'" in line
    assert "2,097,153 bytes" in line


@pytest.mark.parametrize("unit", ["D", "s", "ns"])
def test_an_array_of_times_is_kept_as_texts(run: Run, unit: str) -> None:
    times = np.array(["2020-01-02", "NaT"], dtype=f"M8[{unit}]")
    run.log_list("t", times)
    assert kept().values("t") == np.datetime_as_string(times).tolist()
