"""Figures of a machine and one process on it, from /proc: what a sample costs is well under a millisecond."""

import os
from typing import Any, Final

PREFIX: Final = "system/"
"""Begins the names of these metrics."""

_TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_SECTOR: Final = 512


class System:
    """Samples. Shares and rates are of the time since the sample before, so the first has none of them."""

    def __init__(self, pid: int, folder: str, proc: str = "/proc") -> None:
        """
        :param folder: on the disk whose space is of interest.
        """
        self._pid = pid
        self._folder = folder
        self._proc = proc
        self._before: dict[str, float] = {}
        self._gpus = _Gpus()

    def sample(self, now: float) -> dict[str, float]:
        """Figures by metric. `now` in seconds, of a clock that never falls. Never raises."""
        counters: dict[str, float] = {"now": now}
        found: dict[str, float] = {}
        for read in (self._machine, self._process, self._disk, self._network):
            try:
                read(counters, found)
            except (OSError, ValueError, IndexError, KeyError):
                continue
        passed = now - self._before.get("now", now)
        if passed > 0:
            self._rates(counters, found, passed)
        self._before = counters
        found.update(self._gpus.sample())
        return {PREFIX + name: value for name, value in found.items()}

    def _rates(self, counters: dict[str, float], found: dict[str, float], passed: float) -> None:
        before = self._before
        changes = {name: value - before[name] for name, value in counters.items() if name in before}
        if changes.get("cpu_all", 0) > 0:
            found["cpu_percent"] = 100.0 * (1.0 - changes["cpu_idle"] / changes["cpu_all"])
        if "process_ticks" in changes:
            found["process_cpu_percent"] = 100.0 * changes["process_ticks"] / _TICKS / passed
        for name in ("disk_read", "disk_written", "network_received", "network_sent"):
            if name in changes:
                found[f"{name}_bytes_per_s"] = max(changes[name], 0.0) / passed

    def _machine(self, counters: dict[str, float], found: dict[str, float]) -> None:
        ticks = [int(field) for field in self._read("stat").split("\n", 1)[0].split()[1:9]]
        counters["cpu_all"], counters["cpu_idle"] = sum(ticks), ticks[3] + ticks[4]
        memory = dict(line.split(":") for line in self._read("meminfo").splitlines())
        total, free = (int(memory[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
        found["memory_percent"] = 100.0 * (total - free) / total

    def _process(self, counters: dict[str, float], found: dict[str, float]) -> None:
        fields = self._read(f"{self._pid}/stat").rpartition(")")[2].split()
        counters["process_ticks"] = int(fields[11]) + int(fields[12])
        found["process_threads"] = float(fields[17])
        found["process_memory_bytes"] = float(int(self._read(f"{self._pid}/statm").split()[1]) * _PAGE)

    def _disk(self, counters: dict[str, float], found: dict[str, float]) -> None:
        space = os.statvfs(self._folder)
        if space.f_blocks:
            found["disk_percent"] = 100.0 * (1.0 - space.f_bavail / space.f_blocks)
        read = written = 0
        for line in self._read("diskstats").splitlines():
            fields = line.split()
            if os.path.isdir(f"/sys/block/{fields[2]}") and not fields[2].startswith(("loop", "ram", "dm-")):
                read += int(fields[5])
                written += int(fields[9])
        counters["disk_read"], counters["disk_written"] = read * _SECTOR, written * _SECTOR

    def _network(self, counters: dict[str, float], found: dict[str, float]) -> None:
        received = sent = 0
        for line in self._read("net/dev").splitlines()[2:]:
            name, _, rest = line.partition(":")
            if name.strip() != "lo":
                fields = rest.split()
                received += int(fields[0])
                sent += int(fields[8])
        counters["network_received"], counters["network_sent"] = received, sent

    def _read(self, name: str) -> str:
        with open(f"{self._proc}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read()


class _Gpus:
    """NVIDIA's GPUs, where its Python binding (pynvml) and library are there."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml  # type: ignore[import-untyped,import-not-found,unused-ignore]

            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
            self._nvml = pynvml
        except Exception:  # no binding, no library, no driver: no GPU
            return

    def sample(self) -> dict[str, float]:
        """Load, memory, temperature and power of each."""
        found: dict[str, float] = {}
        for number, handle in enumerate(self._handles):
            try:
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                found[f"gpu_{number}/percent"] = float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                found[f"gpu_{number}/memory_percent"] = 100.0 * memory.used / memory.total
                found[f"gpu_{number}/memory_bytes"] = float(memory.used)
                found[f"gpu_{number}/temperature_c"] = float(
                    self._nvml.nvmlDeviceGetTemperature(handle, self._nvml.NVML_TEMPERATURE_GPU)
                )
                found[f"gpu_{number}/power_w"] = self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0
            except Exception:  # a GPU that lacks a sensor, or was lost
                continue
        return found
