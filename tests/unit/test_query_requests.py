"""Checks of requests, page tokens, links and names."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream.v1 import query_service_pb2
from runstream_query import links, login, tokens
from runstream_query.errors import InvalidArgument
from runstream_query.names import display_name
from runstream_query.selection import checked_selection
from runstream_query.sql import Clause
from runstream_store.tables.schema import NO_STEP


def test_a_selection_names_each_run_once_in_the_order_of_the_tables() -> None:
    message = query_service_pb2.MetricSelection(metrics=["b", "a", "b"], ranks=[3, 1, 3])
    for workspace, run in ("z", "1"), ("a", "2"), ("a", "10"), ("z", "1"), ("a", "ä"), ("a", "z"):
        message.runs.add(workspace=workspace, run=run)
    selection = checked_selection(message)
    assert list(selection.runs.items()) == [("a", ("10", "2", "z", "ä")), ("z", ("1",))]
    assert (selection.metrics, selection.ranks) == (("b", "a"), (1, 3))


def test_no_value_of_a_request_becomes_sql() -> None:
    hostile = "'; DROP TABLE points --"
    message = query_service_pb2.MetricSelection(
        metrics=[hostile], min_step=1, max_step=2, min_time_ns=3, max_time_ns=4
    )
    message.runs.add(workspace=hostile, run=hostile)
    selection = checked_selection(message)
    clause = selection.series(hostile, [hostile]) & selection.elements()
    assert "DROP" not in clause.sql
    assert clause.params["metrics"] == [hostile]
    assert set(re.findall(r"{(\w+):", clause.sql)) == set(clause.params)


def test_no_step_is_not_at_least_the_smallest_step() -> None:
    message = query_service_pb2.MetricSelection(min_step=NO_STEP)
    message.runs.add(workspace="ws", run="run")
    assert checked_selection(message).elements().params == {"min_step": NO_STEP + 1}


def test_conditions_are_joined() -> None:
    one, two = Clause("a = {a:Int64}", {"a": 1}), Clause("b", {})
    assert (one & two).sql == "a = {a:Int64} AND b"
    assert (one & Clause()).sql == one.sql
    assert (Clause() & one).params == {"a": 1}
    assert Clause().further == ""
    assert two.further == " AND b"


@given(st.text(), st.lists(st.one_of(st.text(), st.integers(-(2**63), 2**64))))
def test_tokens_give_back_their_place(bound_to: str, place: list[Any]) -> None:
    token = tokens.encode(bound_to, place)
    assert re.fullmatch(r"[\w-]*", token)
    assert tokens.decode(bound_to, token, *map(type, place)) == place


@given(st.one_of(st.text(), st.binary().map(lambda data: urlsafe_b64encode(data).decode())))
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        tokens.decode("request", text, str)


def test_tokens_of_other_shapes_are_refused() -> None:
    for place in [], ["request"], ["request", 1], ["request", "a", "b"], {"a": 1}, None:
        token = urlsafe_b64encode(json.dumps(place).encode()).decode()
        with pytest.raises(InvalidArgument):
            tokens.decode("request", token, str)


def test_digests_tell_parts_apart() -> None:
    assert tokens.digest("ab", "c") != tokens.digest("a", "bc")


def test_names_are_the_same_each_time() -> None:
    assert display_name("run_1") == display_name("run_1")
    found = {display_name(f"run_{n}") for n in range(2000)}
    assert len(found) > 1500
    assert all(re.fullmatch(r"[a-z]+-[a-z]+", name) for name in found)


@pytest.mark.parametrize("name", ["plain", "a/b", "..", "ä b", "?#%", "<&>\"'"])
def test_links_keep_every_name_in_one_part_of_the_path(name: str) -> None:
    path = links.run_path(name, name)
    assert path.count("/") == 4
    assert re.fullmatch(r"[\w/%.~-]+", path)
    assert links.run_url("https://host/", "w", "r") == "https://host/w/w/r/r"


@pytest.mark.parametrize(
    "away",
    [
        *(
            "",
            "x",
            "//evil",
            "/\\evil",
            "/%5cevil",
            "/%2F/evil",
            "https://evil",
            "/a\r\nset-cookie: x",
            "/%0d%0a",
        ),
        *("/ä", "javascript:alert(1)", "/a\\b", "\t/a"),
    ],
)
def test_a_login_leads_to_a_path_of_this_server(away: str) -> None:
    assert login.local_path(away) == "/"


@pytest.mark.parametrize("path", ["/", "/w/a/r/b", "/w/a%20b?x=1&y=%2F"])
def test_a_login_leads_back(path: str) -> None:
    assert login.local_path(path) == path


def test_cookies() -> None:
    assert login.set_cookie("secret", "h:7301", secure=True).startswith("runstream-7301=secret; Path=/; ")
    assert login.set_cookie("secret", "h", secure=True).endswith("HttpOnly; SameSite=Lax; Secure")
    assert login.bearer("a=b; runstream-7301=secret", "h:7301") == "Bearer secret"
    assert login.bearer("runstream-7301=secret", "h:7302") is None
    assert login.bearer(None, None) is None
    assert login.bearer("runstream=\x01", "h") is None
    for token in "a;b", "a b", "", "a\n":
        with pytest.raises(ValueError):
            login.set_cookie(token, "h", secure=False)
