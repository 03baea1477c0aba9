"""A plain reader of spool folders, written from docs/formats.md alone, and scripts to fill them.

It shares no code with the product, so that writer and reader of that can't be wrong together.
"""

import gc
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

NO_STEP = -(2**63)
WRITER = 0xFFFFFF
SLOT = struct.Struct("<8sqQq")


@dataclass
class Call:
    seq: int
    run: str | None
    kind: int  # of the slot
    time_ns: int
    step: int | None
    elements: list[tuple[str, str, int, Any]]  # metric, column, idx, value
    record: int = 0
    event: dict[str, Any] = field(default_factory=dict)

    def values(self, metric: str, column: str) -> list[Any]:
        if len(self.elements) > 100:  # a large table is not gone through for each of its columns
            return self._by_name.get((metric, column), [])
        return [value for name, at, _, value in self.elements if name == metric and at == column]

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], list[Any]]:
        found: dict[tuple[str, str], list[Any]] = {}
        for metric, column, _, value in self.elements:
            found.setdefault((metric, column), []).append(value)
        return found


@dataclass
class Spool:
    path: Path
    header: dict[str, Any]
    runs: dict[int, dict[str, Any]]
    series: dict[int, dict[str, Any]]
    calls: dict[int, Call]
    empty: list[int]  # slots below the last committed one that are empty

    def values(self, metric: str, run: str | None = None, column: str = "") -> list[Any]:
        return [
            value
            for seq in sorted(self.calls)
            if run in (None, self.calls[seq].run)
            for value in self.calls[seq].values(metric, column)
        ]

    def events(self, record: int) -> list[dict[str, Any]]:
        return [call.event for _, call in sorted(self.calls.items()) if call.record == record]


def spools(root: str | os.PathLike[str]) -> list[Spool]:
    found = [path.parent for path in Path(root).glob("*/*/writer.json")]
    return sorted((read(path) for path in found), key=lambda spool: int(spool.header["started_time_ns"]))


def only(root: str | os.PathLike[str]) -> Spool:
    (found,) = spools(root)
    return found


def start_of(segment: int) -> int:
    return 2048 * (2**segment - 1) if segment < 8 else 2048 * 127 + 262_144 * (segment - 7)


def records(data: bytes, writer: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 0
    while (at := data.find(b"RSC1", at)) >= 0:
        if at + 24 <= len(data):
            _, crc, length, kind, flags, seq = struct.unpack_from("<IIIHHQ", data, at)
            body = data[at + 8 : at + 24 + length]
            if len(body) == 16 + length and zlib.crc32(body, zlib.crc32(writer)) == crc:
                yield kind, flags, seq, body[16:]
                at += 24 + length
                continue
        at += 1


def read(path: Path) -> Spool:
    gc.disable()  # millions of objects may be made here, none of them in a circle
    try:
        return _read(path)
    finally:
        gc.enable()


def _read(path: Path) -> Spool:
    header = json.loads((path / "writer.json").read_bytes())
    writer = bytes.fromhex(header["writer"])
    assert header["format"] == 1
    assert path.name == writer.hex()
    runs: dict[int, dict[str, Any]] = {}
    series: dict[int, dict[str, Any]] = {}
    names = path / "names.records"
    for kind, _, index, payload in records(names.read_bytes() if names.exists() else b"", writer):
        {32: runs, 33: series}[kind][index] = json.loads(payload)
    slots: dict[int, tuple[bytes, int, int, int]] = {}  # value's bytes, step, key, time
    payloads: dict[int, list[tuple[int, bytes]]] = {}
    for file in sorted(path.glob("*.slots")):
        data = file.read_bytes()
        number = int(file.stem)
        assert len(data) == (start_of(number + 1) - start_of(number)) * 32
        for i, (value, step, key, time_ns) in enumerate(SLOT.iter_unpack(data)):
            if time_ns:
                slots[start_of(number) + i] = value, step, key, time_ns
    for file in sorted(path.glob("*.records")):
        if file.name == "names.records":
            continue
        for kind, flags, seq, payload in records(file.read_bytes(), writer):
            assert start_of(int(file.stem)) <= seq < start_of(int(file.stem) + 1)
            if flags & 1:
                slots[seq] = struct.unpack("<8sqQq", payload[:32])
                payload = payload[32:]
            payloads.setdefault(seq, []).append((kind, payload))
    calls = {}
    for seq, (value, step, key, time_ns) in slots.items():
        call = _call(seq, value, step, key, time_ns, payloads.get(seq, []), runs, series)
        if call is not None:
            calls[seq] = call
    empty = [seq for seq in range(max(slots, default=-1) + 1) if seq not in slots]
    return Spool(path, header, runs, series, calls, empty)


def _call(
    seq: int,
    value: bytes,
    step: int,
    key: int,
    time_ns: int,
    payloads: list[tuple[int, bytes]],
    runs: dict[int, dict[str, Any]],
    series: dict[int, dict[str, Any]],
) -> Call | None:
    kind, run, index = key >> 56, key >> 32 & WRITER, key & 0xFFFFFFFF
    call = Call(
        seq,
        None if run == WRITER else runs[run]["run"],
        kind,
        time_ns,
        None if step == NO_STEP else step,
        [],
    )
    integer = struct.unpack("<q", value)[0]
    if kind == 65:
        return call
    if kind != 64:
        name = series[index]
        if kind == 1:
            (decoded,) = struct.unpack("<d", value)
        else:
            decoded = {2: integer, 3: bool(integer), 4: None}[kind]
        call.elements.append((name["metric"], name["column"], 0, decoded))
        return call
    if not payloads:
        raise AssertionError(f"slot {seq} has no record")
    call.record = payloads[0][0]
    if call.record == 3:
        assert sum(len(payload) for _, payload in payloads) >= integer
        seen: dict[tuple[str, str], set[int]] = {}
        for _, payload in payloads:
            for (metric, column), first, values in _block(payload, series):
                known = seen.setdefault((metric, column), set())
                for idx, element in enumerate(values, first):
                    if idx not in known or idx < 0:
                        known.add(idx)
                        call.elements.append((metric, column, idx, element))
        return call
    payload = payloads[0][1]
    assert len(payload) == integer
    if call.record in (1, 2):
        name = series[index]
        text = payload.decode()
        call.elements.append((name["metric"], name["column"], 0, text if call.record == 1 else int(text)))
    else:
        call.event = json.loads(payload)
    return call


def _block(
    payload: bytes, series: dict[int, dict[str, Any]]
) -> Iterator[tuple[tuple[str, str], int, list[Any]]]:
    """Of each column: its name, the idx of its first value here, and the values."""
    columns, first = struct.unpack_from("<II", payload)
    at = 8
    for _ in range(columns):
        index, layout, count, size = struct.unpack_from("<IIII", payload, at)
        data = payload[at + 16 : at + 16 + size]
        at += 16 + size + -size % 8
        name = series[index]["metric"], series[index]["column"]
        if layout >= 5:
            assert (count, size) == (0, 0)
            yield name, -1, [{5: "DECLARATION", 6: "TABLE"}[layout]]
        else:
            yield name, first, _column(layout, count, data)
    assert at == len(payload)


def _column(layout: int, count: int, data: bytes) -> list[Any]:
    if layout == 1:
        return list(struct.unpack(f"<{count}d", data))
    if layout == 2:
        return list(struct.unpack(f"<{count}q", data))
    if layout == 3:
        return [bool(b) for b in data]
    types = data[:count]
    at = count + -count % 8
    words = [data[at + 8 * i : at + 8 * i + 8] for i in range(count)]
    at += 8 * count
    (texts,) = struct.unpack_from("<I", data, at)
    ends = struct.unpack_from(f"<{texts}I", data, at + 4)
    text = data[at + 4 + 4 * texts :]
    strings = [text[a:b].decode() for a, b in zip((0, *ends), ends, strict=False)]
    return [_element(kind, word, strings) for kind, word in zip(types, words, strict=True)]


def _element(kind: int, word: bytes, strings: list[str]) -> Any:
    number = struct.unpack("<q", word)[0]
    match kind:
        case 1:
            return struct.unpack("<d", word)[0]
        case 2:
            return number
        case 3:
            return bool(number)
        case 4:
            return None
        case 5:
            return strings[number]
    assert kind == 6
    return int(strings[number])


# ------------------------------------------------------------------------------------- scripts

PREAMBLE = """
import os, sys, signal, time, threading
from runstream import Experiment, Run, Workspace
from runstream.core import delivery
delivery.nudge_sender = lambda **_: None          # no sender: these tests look at the spool alone
delivery.drain_at_complete = delivery.drain_at_exit = lambda: None
experiment = Experiment(Workspace(workspace_name="test"), "exp")
"""


def environment_of(root: Path, engine: str, more: dict[str, str] | None = None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RUNSTREAM_", "SLURM_"))}
    return {
        **kept,
        "RUNSTREAM_SPOOL": str(root / "spool"),
        "RUNSTREAM_HOME": str(root / "home"),
        "RUNSTREAM_SPOOL_ENGINE": engine,
        "RUNSTREAM_AUTOSTART": "0",
        "PYTHONFAULTHANDLER": "1",
        **(more or {}),
    }


def start(
    root: Path, engine: str, code: str, *, environment: dict[str, str] | None = None
) -> "subprocess.Popen[str]":
    script = root / "script.py"
    script.write_text(PREAMBLE + code)
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-W", "error", str(script)],
        env=environment_of(root, engine, environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    root: Path,
    engine: str,
    code: str,
    *,
    code_expected: int = 0,
    environment: dict[str, str] | None = None,
) -> str:
    """Run a script to its end. Its output."""
    process = start(root, engine, code, environment=environment)
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler then says where it hangs
        out, err = process.communicate()
        raise AssertionError(f"hangs\n{out[-2000:]}\n{err[-8000:]}") from None
    except BaseException:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == code_expected, f"exit {process.returncode}\n{out}\n{err}"
    return out + err
