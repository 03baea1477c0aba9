"""The command line without a server: usage, help, exit codes, and what it loads."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runstream.cli import main


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user for whom no server runs."""
    for name in list(os.environ):
        if name.startswith("RUNSTREAM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    for command in ("up", "runs", "metrics", "sync", "token", "keys", "version"):
        assert f"\n    {command} " in told.err, told.err


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["runs", "--limit", "0"], ["metrics"], ["metrics", "r", "--json", "--csv"], ["keys"]],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["metrics"], "required: RUN\n"),
        (["submit", "--experiment", "e"], "required: SCRIPT\n"),
        (["runs", "--limit", "many"], "--limit: 'many' is no whole number from 1"),
        (["logs", "r", "--tail", "x"], "--tail: 'x' is no whole number from 0"),
        (["verify", "r", "--timeout", "soon"], "--timeout: 'soon' is no number of seconds"),
    ],
)
def test_wrong_usage_names_what_was_wrong(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err


def test_an_id_that_is_no_text_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNSTREAM_SERVER", "127.0.0.1:1")
    for command in ("metrics", "logs", "artifacts"):
        assert main([command, "run\udcff"]) == 2
        assert "is no text" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from runstream import __version__

    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("arguments", [["runs"], ["metrics", "some-run"]])
def test_no_server_is_3_and_says_what_to_do(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(arguments) == 3
    assert "runstream up" in capsys.readouterr().err
    monkeypatch.setenv("RUNSTREAM_SERVER", "127.0.0.1:1")
    assert main(arguments) == 3
    assert "can't be reached" in capsys.readouterr().err


def test_a_status_that_is_none_names_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--status", "completed"]) == 2
    assert "Completed, Failed, Canceled" in capsys.readouterr().err


def test_a_folder_that_is_no_spool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", str(tmp_path)]) == 2
    assert "holds no spool" in capsys.readouterr().err


def test_a_damaged_configuration_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / ".runstream" / "config.json"
    config.parent.mkdir()
    config.write_text("{")
    assert main(["runs", "--server", "127.0.0.1:1"]) in (2, 3)
    assert "config.json is not JSON" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom runstream.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('grpc', 'google.protobuf', 'numpy', 'pyarrow', 'chdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_server_leaves_pandas_out() -> None:
    """It is installed here; pyarrow must do without it all the same."""
    code = """
import asyncio, sys
from runstream_server.lean import give_back, keep_lean
keep_lean()
import pyarrow as pa
assert pa.array([1, 2]).to_pylist() == [1, 2]
try:
    import pandas
except ModuleNotFoundError:
    pass
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("verb", ["add", "revoke"])
def test_keys_are_refused_in_words(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a b" if verb == "add" else "nobody"
    assert main(["keys", verb, name]) == 1
    assert capsys.readouterr().err.startswith("runstream: ")


def test_keys_are_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "add", "alice"]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("rsk_")
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("alice\t")
    assert key not in listed
    assert main(["keys", "revoke", "alice"]) == 0
    assert main(["keys", "list"]) == 0
    assert "keys add NAME" in capsys.readouterr().err


def test_the_doctor_without_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor"]) == 3
    told = capsys.readouterr().out
    assert "✗ server" in told
    assert "runstream up" in told
    monkeypatch.setenv("RUNSTREAM_MODE", "ofline")
    (tmp_path / ".runstream").mkdir()
    (tmp_path / ".runstream" / "config.json").write_text('{"workspace_name": 5}')
    assert main(["doctor", "--json"]) == 3
    checks = {check["name"]: check for check in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (checks["mode"]["state"], checks["config"]["state"]) == ("wrong", "wrong")
    assert "workspace_name is not a text" in checks["config"]["detail"]
    monkeypatch.setenv("RUNSTREAM_SPOOL", str(tmp_path / "file" / "spool"))
    (tmp_path / "file").write_text("")
    main(["doctor"])
    assert "✗ spool" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ahead", "says"), [(0, "within a second"), (60, "60 s ahead"), (-60, "60 s behind")]
)
def test_the_doctor_compares_clocks(ahead: int, says: str) -> None:
    from email.utils import formatdate

    from runstream.cli_doctor import _clock

    check = _clock(formatdate(1_000_000_000, usegmt=True), 1_000_000_000.2 + ahead, 1_000_000_000.4 + ahead)
    assert says in check.detail.replace("59 s", "60 s")
    assert (check.state == "ok") == (ahead == 0)


def test_colour_only_where_it_is_seen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from runstream.cli_table import RED, STATUS_COLOURS, coloured, print_table

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert coloured("x", RED, Terminal()) == "\033[31mx\033[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("x", RED, Terminal()) == coloured("x", RED) == "x"
    print_table(("A", "STATUS"), [("\033[2J", "Failed"), ("b", "Running")], colours={1: STATUS_COLOURS})
    told = capsys.readouterr().out.splitlines()
    assert told == ["A        STATUS", "\\x1b[2J  Failed", "b        Running"]


def test_nothing_to_sync(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync"]) == 0
    assert capsys.readouterr().err == "Nothing was logged offline.\n"


def test_every_command_and_exit_code_is_documented() -> None:
    from runstream import cli_read
    from runstream.cli import _parser

    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    (commands,) = (action for action in _parser()._actions if action.dest == "==SUPPRESS==" or action.choices)
    assert commands.choices is not None
    assert [name for name in commands.choices if f"`runstream {name}" not in page] == []
    for code in (cli_read.FAILED, cli_read.UNREACHABLE, cli_read.NOT_FOUND):
        assert f"\n| {code} | " in page
