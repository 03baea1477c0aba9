"""Settings of the sender. Read once, when it starts, from the environment of whoever started it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """How the sender polls, sends and ends. `SETTINGS` says what each one means."""

    poll_busy_ms: float = 5.0
    poll_idle_ms: float = 50.0
    request_kib: int = 256
    window_kib: int = 4096
    gather_ms: float = 20.0
    compress: str = "auto"
    retry_max_s: float = 30.0
    answer_timeout_s: float = 30.0
    idle_exit_s: float = 60.0
    autostart: bool = True
    observe: bool = True

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> "SenderSettings":
        """The settings with what the environment overrides. Raises ValueError for what can't be meant."""
        environment = os.environ if environment is None else environment
        values: dict[str, float | int | str | bool] = {}
        for setting in SETTINGS:
            text = environment.get(setting.variable, "")
            if not text:
                continue
            default = getattr(cls(), setting.name)
            try:
                values[setting.name] = _value(text, default)
            except ValueError:
                raise ValueError(f"{setting.variable}={text!r}: {setting.meaning}") from None
        return cls(**values)  # type: ignore[arg-type]  # each has the type of its default


def _value(text: str, default: float | int | str | bool) -> float | int | str | bool:
    if isinstance(default, bool):
        if text not in ("0", "1"):
            raise ValueError(text)
        return text == "1"
    if isinstance(default, str):
        if text not in ("auto", "on", "off"):
            raise ValueError(text)
        return text
    value = type(default)(text)
    if not 0 < value < 1e9:
        raise ValueError(text)
    return value


class Setting(NamedTuple):
    """One row of the table."""

    name: str
    variable: str
    unit: str
    meaning: str


SETTINGS = (
    Setting(
        "poll_busy_ms",
        "RUNSTREAM_SENDER_POLL_BUSY_MS",
        "ms",
        "time between looks at spools that are written to",
    ),
    Setting(
        "poll_idle_ms", "RUNSTREAM_SENDER_POLL_IDLE_MS", "ms", "time between looks when nothing is written"
    ),
    Setting("request_kib", "RUNSTREAM_SENDER_REQUEST_KIB", "KiB", "size that requests grow to under load"),
    Setting(
        "window_kib",
        "RUNSTREAM_SENDER_WINDOW_KIB",
        "KiB",
        "sent and not yet acknowledged, for each server; bounds the sender's memory",
    ),
    Setting(
        "gather_ms",
        "RUNSTREAM_SENDER_GATHER_MS",
        "ms",
        "how long a small request waits for more while others are under way",
    ),
    Setting(
        "compress",
        "RUNSTREAM_SENDER_COMPRESS",
        "",
        "zstd of points: on, off, or auto: for servers on other machines",
    ),
    Setting(
        "retry_max_s", "RUNSTREAM_SENDER_RETRY_MAX_S", "s", "longest pause between attempts to reach a server"
    ),
    Setting(
        "answer_timeout_s",
        "RUNSTREAM_SENDER_ANSWER_TIMEOUT_S",
        "s",
        "a server that answers nothing for so long is dialled anew",
    ),
    Setting(
        "idle_exit_s",
        "RUNSTREAM_SENDER_IDLE_EXIT_S",
        "s",
        "the sender ends when for so long nobody logged and everything is delivered",
    ),
    Setting(
        "observe",
        "RUNSTREAM_SENDER_OBSERVE",
        "0 or 1",
        "whether scripts are looked at from outside: system figures and source, where they allow it",
    ),
    Setting(
        "autostart",
        "RUNSTREAM_AUTOSTART",
        "0 or 1",
        "whether a server is started when none is configured and none is found",
    ),
)
