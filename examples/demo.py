"""`make demo`: a server, a sweep in a process of its own, and the best alpha, read back.

Everything it makes is under `.demo` at the root of the checkout. Ends with 0 only if the best alpha read from
the server, and that of the model that its run has kept, is the one computed without it. On a terminal the
server goes on until Ctrl-C.

With `--engines cluster` the server is a cluster of processes on real engines (`deploy/cluster.py`).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sweep

if TYPE_CHECKING:
    from deploy.cluster import Cluster

ROOT = Path(__file__).resolve().parent.parent / ".demo"
PATIENCE_S = 120.0


def environment() -> dict[str, str]:
    """The caller's, without settings of runstream but those of the demo."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")}
    return {
        **kept,
        "RUNSTREAM_HOME": str(ROOT / "home"),
        "RUNSTREAM_SPOOL": str(ROOT / "spool"),
        "RUNSTREAM_DATA": str(ROOT / "data"),
        "RUNSTREAM_AUTOSTART": "0",
    }


def stop_leftover() -> None:
    """End the server of a demo that was killed: it holds the lock of our data folder."""
    path = ROOT / "data" / "server.lock"
    if not path.exists():
        return
    with open(path, encoding="utf-8") as lock:
        deadline = time.monotonic() + PATIENCE_S
        asked = False
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pass
            if not asked:
                lock.seek(0)
                try:
                    os.kill(json.load(lock)["pid"], signal.SIGTERM)
                    asked = True
                    print("a server of an earlier demo is stopped first")
                except (ValueError, KeyError):  # it is just being written
                    pass
                except ProcessLookupError:
                    asked = True
            time.sleep(0.1)
    sys.exit(f"the server of an earlier demo does not end; its data are in {ROOT / 'data'}")


def start_server(env: dict[str, str]) -> subprocess.Popen[bytes]:
    """`runstream up` on free ports; returns when it listens."""
    server = subprocess.Popen(
        [sys.executable, "-m", "runstream.cli", "up", "--grpc-port", "0", "--http-port", "0"],
        env=env,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C on the terminal is for the demo, which then ends the server
    )
    deadline = time.monotonic() + PATIENCE_S
    discovery = Path(env["RUNSTREAM_HOME"]) / "server.json"
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if json.loads(discovery.read_text())["pid"] == server.pid:
                return server
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    stop_process(server)
    sys.exit("the server did not start")


def start_cluster(env: dict[str, str]) -> Cluster:
    """Engines and services as processes; says which engines, as they name themselves."""
    sys.path.insert(0, str(ROOT.parent))
    from deploy.cluster import Cluster

    cluster = Cluster(ROOT / "cluster").start()
    for role, version in cluster.engines().items():
        print(f"  {role}: {version}", flush=True)
    env.update(cluster.client())
    os.environ.update(cluster.client())
    return cluster


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and see that it does."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stop_sender() -> None:
    """End the sender that the sweep started; it would wait for more runs."""
    from runstream.sender.ask import NoSenderError, ask

    try:
        pid = ask(os.environ["RUNSTREAM_SPOOL"], {"op": "info"}, 5.0)["pid"]
        os.kill(int(pid), signal.SIGTERM)
    except (NoSenderError, OSError):
        pass  # it has ended by itself


def run_sweep(env: dict[str, str]) -> list[str]:
    """Run the sweep as anybody would, and return the ids of its runs."""
    child = subprocess.Popen(
        [sys.executable, str(Path(sweep.__file__))], env=env, cwd=ROOT, stdout=subprocess.PIPE
    )
    ids = []
    try:
        assert child.stdout is not None
        for line in child.stdout:
            text = line.decode()
            print(" ", text, end="", flush=True)
            if text.startswith("alpha "):
                ids.append(text.split()[-1])
        child.wait()
    finally:
        stop_process(child)
    if child.returncode != 0:
        sys.exit(f"the sweep failed with exit code {child.returncode}")
    return ids


def read_best(ids: list[str]) -> tuple[float, float, str]:
    """The best alpha according to the server, that of the model that its run has kept, and a link to it."""
    import joblib

    from runstream import Experiment, Run, Workspace

    experiment = Experiment(Workspace.from_config(), "diabetes-ridge")
    runs = [Run(experiment, run_id) for run_id in ids]
    metrics = [run.get_metrics() for run in runs]
    best = min(range(len(runs)), key=lambda number: metrics[number]["mse"])
    (name,) = (name for name in runs[best].get_file_names() if name.startswith("outputs/"))
    runs[best].download_file(name, ROOT / "best.pkl")
    kept = float(joblib.load(ROOT / "best.pkl").alpha)
    return metrics[best]["alpha"], kept, runs[best].get_portal_url()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engines", choices=["embedded", "cluster"], default="embedded")
    engines = parser.parse_args().engines
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    env = environment()
    for folder in (ROOT, ROOT / ".runstream"):
        folder.mkdir(mode=0o700, exist_ok=True)
    # The nearest configuration wins: none above this checkout has a say.
    (ROOT / ".runstream" / "config.json").write_text('{"workspace_name": "demo"}\n')
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    stop: Callable[[], object]
    wait: Callable[[], object]
    if engines == "cluster":
        print("starting Kafka, Redis, ClickHouse's engine, S3, and the services …", flush=True)
        cluster = start_cluster(env)
        stop, wait, login = cluster.stop, signal.pause, cluster.login
    else:
        stop_leftover()
        print("starting a server …", flush=True)
        server = start_server(env)
        discovery = json.loads((ROOT / "home" / "server.json").read_text())
        stop, wait = partial(stop_process, server), server.wait
        login = f"{discovery['http']}/login?token={discovery['token']}"
    try:
        print("a sweep over Ridge's alpha:", flush=True)
        found, kept, link = read_best(run_sweep(env))
        expected = min(sweep.ALPHAS, key=sweep.evaluate)
        print(f"best alpha, read from the server: {found:.2f}; computed without it: {expected:.2f}")
        print(f"alpha of the model that its run has kept: {kept:.2f}")
        if not found == kept == expected:
            print("they differ", file=sys.stderr)
            return 1
        print(f"its run: {link}")
        if sys.stdout.isatty():
            print(f"sign in once: {login}")
            print("the server goes on until Ctrl-C", flush=True)
            wait()
        return 0
    finally:
        stop_sender()
        stop()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0 if sys.stdout.isatty() else 130)
