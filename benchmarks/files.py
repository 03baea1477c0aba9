"""Files: what an upload costs the script, and how fast they arrive.

    python -m benchmarks.files [--mb 1024] [--small 10000] [--rounds 3]

A large file, of bytes that nothing has in common, and many small ones, through the whole line: script, spool,
sender, server with its folder of objects. "Returned" is when the call has returned, so that the script may
change its file; "delivered" is when the file can be read from the server. Beside each round the same file is
copied and hashed once by plain means on the same disk, cold and warm alike. Memory is private memory above
that before the upload.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import threading
import time
from pathlib import Path
from typing import Final

from benchmarks.machine import describe
from benchmarks.system import System, memory_mb, spread, system, verdict

LARGE: Final = """
run = experiment.start_logging(outputs=False)
run.log("begin", 1.0)
run.flush()
say(ready=True)
while (what := wait()) is not None:
    begin = time.perf_counter()
    run.upload_file(what["name"], what["path"])
    returned = time.perf_counter() - begin
    run.flush(3600)
    say(returned=returned, delivered=time.perf_counter() - begin)
"""
SMALL: Final = """
run = experiment.start_logging(outputs=False)
run.log("begin", 1.0)
run.flush()
say(ready=True)
what = wait()
names = sorted(os.listdir(what["folder"]))
begin = time.perf_counter()
run.upload_folder("many", what["folder"])
returned = time.perf_counter() - begin
run.flush(3600)
delivered = time.perf_counter() - begin
begin = time.perf_counter()
listed = run.get_file_names()
assert listed == [f"many/{name}" for name in names], len(listed)
say(returned=returned, delivered=delivered, listed=time.perf_counter() - begin)
"""
_LEAST_SHARE: Final = 0.5
_LEAST_RATE: Final = 1000.0


class Watch:
    """The greatest private memory of processes, from now on."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        self._before = {part: memory_mb(pid) for part, pid in pids.items()}
        self._most = dict(self._before)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for part, pid in self._pids.items():
                self._most[part] = max(self._most[part], memory_mb(pid))

    def above(self) -> dict[str, float]:
        """MB above what it was, by part."""
        self._over.set()
        self._thread.join()
        return {part: most - self._before[part] for part, most in self._most.items()}


def plain(source: Path, target: Path) -> float:
    """Seconds to copy a file and to hash it, once each."""
    begin = time.perf_counter()
    shutil.copyfile(source, target)
    with open(source, "rb") as file:
        hashlib.file_digest(file, "sha256")
    took = time.perf_counter() - begin
    target.unlink()
    return took


def large(made: System, megabytes: int, rounds: int) -> None:
    script = made.script(LARGE)
    script.answer()
    source = made.place.work / "large"
    plains, returned, delivered = [], [], []
    assert made.server is not None
    watch = Watch(script=script.pid, sender=made.sender(), server=made.server.process.pid)
    for number in range(rounds):
        with open(source, "wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(1 << 20))
        os.sync()
        plains.append(plain(source, made.place.work / "copy"))
        os.sync()
        script.go(name=f"large{number}", path=str(source))
        answer = script.answer()
        returned.append(answer["returned"])
        delivered.append(answer["delivered"])
    memory = watch.above()
    script.end()
    size = megabytes * (1 << 20) / 1e6
    print(f"a file of {size:,.0f} MB, {rounds} rounds")
    for what, times in (("copied and hashed", plains), ("returned", returned), ("delivered", delivered)):
        print(f"  {what:18} {spread(times, '.2f')} s, {spread([size / t for t in times])} MB/s")
    for what, times in (("returned", returned), ("delivered", delivered)):
        share = statistics.median(p / t for p, t in zip(plains, times, strict=True))
        print(f"  {what}: {share:.0%} of the speed of copying and hashing: {verdict(share, _LEAST_SHARE)}")
    print("  memory above before: " + ", ".join(f"{part} {mb:,.0f} MB" for part, mb in memory.items()))


def small(made: System, count: int) -> None:
    folder = made.place.work / "many"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06}").write_bytes(os.urandom(1024))
    script = made.script(SMALL)
    script.answer()
    script.go(folder=str(folder))
    answer = script.answer()
    script.end()
    print(f"{count:,} files of 1 KiB")
    for what in "returned", "delivered":
        rate = count / answer[what]
        print(f"  {what:18} {answer[what]:.2f} s, {rate:,.0f} files/s: {verdict(rate, _LEAST_RATE)}")
    print(f"  listed             {answer['listed']:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--small", type=int, default=10_000, help="small files")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(describe())
    with system() as made:
        large(made, options.mb, options.rounds)
        small(made, options.small)


if __name__ == "__main__":
    main()
