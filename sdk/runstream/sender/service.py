"""The sender's loop: looks at the spools, sends what is new, takes in the answers, tidies up."""

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from runstream import __version__, home
from runstream.sender import accounts, tidying
from runstream.sender.arrival import Arrival
from runstream.sender.autostart import Autostart
from runstream.sender.flush import Flush
from runstream.sender.folders import Folders, Found
from runstream.sender.liveness import Liveness
from runstream.sender.observing import Observing
from runstream.sender.settings import SenderSettings
from runstream.sender.stream import Publisher
from runstream.sender.tail import WriterTail

log = logging.getLogger("runstream.sender")

_LOOK_S = 0.25  # between close looks at one writer; more with many writers
_LOOKS_PER_S = 200
_THOROUGH = 7  # of so many looks, one lists the folder
_SLOWEST_POLL_S = 0.2
_BUSY_S = 0.25  # after the last sign of life polls are frequent
_TIDY_S = 0.5
_SMALL_REQUEST_BYTES = 64 << 10
_NO_SERVER_EXIT_S = 600.0  # without any server there is nothing to wait for
_SUSPENDED_S = 30.0

_ENDING = {"ok": False, "error": "no_sender", "detail": "this sender ends; another one follows"}


class Sender:
    """Delivers everything under one spool root."""

    def __init__(
        self, root: Path, settings: SenderSettings, appointed: Callable[[], bool] = lambda: True
    ) -> None:
        """`appointed` says whether this still is the sender of the root: it ends when it is not."""
        self.root = root
        self._appointed = appointed
        self._settings = settings
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._folders = Folders(root)
        self._observing = Observing(root) if settings.observe else None
        self._found: dict[str, tuple[WriterTail, Publisher, Found, Liveness]] = {}
        self._publishers: dict[tuple[str, str] | None, Publisher] = {}
        self._autostart = Autostart(settings.autostart)
        self._asked: deque[tuple[dict[str, Any], Future[dict[str, Any]]]] = deque()
        self._flushes: list[Flush] = []
        self._arrivals: list[Arrival] = []
        self._hot: set[WriterTail] = set()  # with something to send, or under way
        self._probes: dict[WriterTail, tuple[memoryview, int]] = {}
        self._unprobed: set[WriterTail] = set()
        self._touched: set[WriterTail] = set()  # since the last tidying
        self._looks: deque[WriterTail] = deque()
        self._last_look = time.monotonic()
        self._owed_looks = 0.0
        self._looked = 0
        self._next_poll = self._next_tidy = 0.0
        self._busy_until = 0.0
        self._idle_since: float | None = None
        self._sent_at: dict[WriterTail, float] = {}

    # -------------------------------------------------------------------------------- loop

    def run(self) -> None:
        """Serve until there is nothing left to do, or `stop`."""
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                pause = self.step(now)
                if self._may_end(now):
                    break
                self._wake.wait(pause)
                self._wake.clear()
        finally:
            self._close()

    def stop(self) -> None:
        """End soon. What is not acknowledged is sent again by the next sender."""
        self._stop.set()
        self._wake.set()

    def step(self, now: float) -> float:
        """One round. Returns how long to wait before the next, in seconds."""
        while self._asked:
            self._handle(*self._asked.popleft(), now)
        polled = now >= self._next_poll or self._urgent
        if polled:
            self._adopt(now)
            self._poll(now)
            for flush in self._flushes:
                flush.polled()
            for arrival in self._arrivals:
                arrival.polled()
        received = False
        for publisher in self._publishers.values():
            received |= publisher.step(now)
        self._pump(now)
        if None in self._publishers:
            self._autostart.step(self._publishers[None], now)
        self._check_flushes(now)
        if now >= self._next_tidy:
            self._next_tidy = now + _TIDY_S
            if not self._appointed():
                log.warning("the sender's lock file is gone: another sender may take over")
                self.stop()
            self._tidy(now)
        if received:
            self._busy_until = now + _BUSY_S
        if polled:
            self._next_poll = now + self._interval(now, time.monotonic() - now)
        return max(self._next_poll - time.monotonic(), 0.0005) if not self._urgent else 0.001

    @property
    def _urgent(self) -> bool:
        """Whether somebody waits for what the next looks at the spools bring."""
        return bool(self._arrivals) or any(not flush.patient for flush in self._flushes)

    def _interval(self, now: float, took: float) -> float:
        idle, busy = self._settings.poll_idle_ms / 1000, self._settings.poll_busy_ms / 1000
        if not any(tail.lives for tail in self._looks):
            idle = max(idle, _SLOWEST_POLL_S)  # only new writers could be found
        if now < self._busy_until:
            return busy
        # With very many spools a look takes long, and is made so much more rarely that it costs the same.
        return max(min(idle, busy + (now - self._busy_until) * 0.1), min(took * 100, _SLOWEST_POLL_S))

    # ----------------------------------------------------------------------------- writers

    def _adopt(self, now: float, thoroughly: bool = False) -> None:
        for found in self._folders.look(now, thoroughly):
            try:
                liveness = Liveness(found.path, found.header)
                tail = WriterTail(
                    found.path, found.header, liveness, request_bytes=self._settings.request_kib * 1024
                )
            except Exception:
                log.exception("%s can't be read", found.path)
                found.lock.close()
                self._folders.forget(found.path, now + _SUSPENDED_S)
                continue
            publisher = self._publisher(found)
            self._found[found.header.writer.hex()] = (tail, publisher, found, liveness)
            self._looks.appendleft(tail)
            self._owed_looks += 1  # perhaps it is dead already
            self._hot.add(tail)
            publisher.adopt(tail)
            self._autostart.consider(found.header)

    def _publisher(self, found: Found) -> Publisher:
        header = found.header
        key = None
        if header.server is not None:
            try:
                token = header.credential.read_text().strip() if header.credential else ""
            except OSError:
                token = ""
            key = (home.normal_address(header.server), token)
        publisher = self._publishers.get(key)
        if publisher is None:
            publisher = Publisher(self._settings, self._wake.set)
            self._publishers[key] = publisher
        return publisher

    def _publisher_of(self, tail: WriterTail) -> Publisher:
        return self._found[tail.header.writer.hex()][1]

    def _poll(self, now: float) -> None:
        stirring = {tail for tail, (words, at) in self._probes.items() if words[at]}
        for tail in stirring | self._unprobed | self._hot:
            # Without a server only what is new is of interest.
            if tail in stirring or tail in self._unprobed or self._publisher_of(tail).ready:
                self._guard(tail, now, self._poll_one)
        elapsed, self._last_look = now - self._last_look, now
        interval = max(_LOOK_S, len(self._looks) / _LOOKS_PER_S)
        self._owed_looks = min(self._owed_looks + elapsed / interval * len(self._looks), len(self._looks))
        for _ in range(math.floor(self._owed_looks)):
            self._owed_looks -= 1
            tail = self._looks.popleft()
            self._looks.append(tail)
            if tail.dead and not self._publisher_of(tail).ready:
                continue  # nothing new will come, and nothing of it can be delivered now
            self._guard(tail, now, self._look)

    def _poll_one(self, tail: WriterTail) -> None:
        if tail.state.exit is not None and not tail.dead:
            tail.look(thoroughly=False)  # it said goodbye: any moment now
        self._touched.add(tail)
        if tail.poll():
            self._busy_until = time.monotonic() + _BUSY_S
        if tail.busy:
            self._hot.add(tail)
        else:
            self._hot.discard(tail)
        probe = tail.probe()
        if probe is None:
            self._probes.pop(tail, None)
            self._unprobed.add(tail)
        else:
            self._unprobed.discard(tail)
            self._probes[tail] = probe

    def _look(self, tail: WriterTail) -> None:
        self._looked += 1
        tail.look(thoroughly=self._looked % _THOROUGH == 0 or len(self._looks) < 100)
        self._poll_one(tail)
        if self._observing is not None:
            self._observing.look(tail, time.monotonic())

    def _guard(self, tail: WriterTail, now: float, action: Any) -> bool:
        """Do something with a writer. What goes wrong with one must not stop the others."""
        try:
            action(tail)
        except Exception as error:
            if tail.folder.exists():
                log.exception("%s is suspended for %d s", tail.folder, _SUSPENDED_S)
                self._drop(tail, now + _SUSPENDED_S)
            else:
                log.error("%s was removed: %r", tail.folder, error)
                self._drop(tail, None)
            return False
        return True

    def _drop(self, tail: WriterTail, retry_at: float | None) -> None:
        _, publisher, found, _ = self._found.pop(tail.header.writer.hex())
        publisher.forget(tail)
        if self._observing is not None:
            self._observing.forget(tail)
        tail.generation += 1  # answers that still come mean nothing
        tail.close()
        found.lock.close()
        self._folders.forget(found.path, retry_at)
        self._looks.remove(tail)
        self._hot.discard(tail)
        self._unprobed.discard(tail)
        self._touched.discard(tail)
        self._probes.pop(tail, None)
        self._sent_at.pop(tail, None)

    # ----------------------------------------------------------------------------- sending

    def _pump(self, now: float) -> None:
        """Give every writer its turn until its server's window is full or nothing is left."""
        turn = list(self._hot)
        while turn:
            turn = [tail for tail in turn if self._guard_send(tail, now)]

    def _guard_send(self, tail: WriterTail, now: float) -> bool:
        publisher = self._publisher_of(tail)
        if publisher.room <= 0:
            return False
        sent: list[bool] = []
        self._guard(tail, now, lambda tail: sent.append(self._send(publisher, tail, now)))
        return bool(sent and sent[0])

    def _send(self, publisher: Publisher, tail: WriterTail, now: float) -> bool:
        """Send one request of the writer. False when there is nothing to send now."""
        last = self._sent_at.get(tail, 0.0)
        if (
            publisher.busy
            and not (self._flushes or self._arrivals)
            and now - last < self._settings.gather_ms / 1000
            and tail.ready_bytes() < _SMALL_REQUEST_BYTES
        ):
            return False
        records = tail.request(now)
        if not records:
            return False
        self._sent_at[tail] = now
        return publisher.send(records)

    # ------------------------------------------------------------------------------ asking

    def ask(self, request: dict[str, Any], answer: "Future[dict[str, Any]]") -> None:
        """Take a request of a script, from any thread."""
        self._asked.append((request, answer))
        self._wake.set()

    def _handle(self, request: dict[str, Any], answer: "Future[dict[str, Any]]", now: float) -> None:
        op = request.get("op")
        if op == "flush":
            try:
                flush = Flush(request, answer)
            except (ValueError, KeyError, TypeError) as error:
                answer.set_result({"ok": False, "error": "malformed", "detail": repr(error)})
                return
            if flush.writer not in self._found:
                self._adopt(now, thoroughly=True)
            self._flushes.append(flush)
        elif op == "arrive":
            try:
                self._arrivals.append(Arrival(request, answer))
            except (ValueError, KeyError, TypeError) as error:
                answer.set_result({"ok": False, "error": "malformed", "detail": repr(error)})
                return
            self._adopt(now, thoroughly=True)
        elif op == "release":
            answer.set_result({"ok": self._release(str(request.get("writer")), now)})
        elif op == "account":
            workspace, run = str(request.get("workspace")), str(request.get("run"))
            self._adopt(now, thoroughly=True)
            for tail, *_ in list(self._found.values()):
                self._guard(tail, now, self._poll_one)
            served = [(tail, publisher) for tail, publisher, *_ in self._found.values()]
            answer.set_result({"ok": True, "writers": accounts.of_run(served, workspace, run)})
        elif op == "info":
            self._adopt(now, thoroughly=True)  # of writers of this moment too
            self._poll(now)
            answer.set_result(self._info())
        elif op == "handover":
            log.info("making room for version %s", request.get("version"))
            answer.set_result({"ok": True})
            self.stop()
        else:
            answer.set_result({"ok": False, "error": "malformed", "detail": f"unknown op {op!r}"})

    def _release(self, writer: str, now: float) -> bool:
        """Let somebody else deliver a writer whose server can't be reached: `sync`, to another one."""
        found = self._found.get(writer)
        if found is None or found[1].ready:
            return False
        self._drop(found[0], now + _SUSPENDED_S)
        return True

    def _info(self) -> dict[str, Any]:
        publishers = [p for p in self._publishers.values() if p.target is not None]
        first = next((p for p in publishers if p.ready), publishers[0] if publishers else None)
        return {
            "ok": True,
            "pid": os.getpid(),
            "version": __version__,
            "server": first.target.grpc if first is not None and first.target else None,
            "connected": first is not None and first.ready,
            "problem": first.problem if first is not None else None,
            "http": first.http_url if first is not None else None,
            "writers": len(self._found),
            "undelivered": sum(tail.undelivered for tail, *_ in self._found.values()),
        }

    def _check_flushes(self, now: float) -> None:
        for flush in self._flushes[:]:
            tail, publisher, *_ = self._found.get(flush.writer, (None, None))
            if tail is not None:
                self._hot.add(tail)  # of logs no probe tells
            starting = (
                publisher is not None
                and publisher is self._publishers.get(None)
                and (self._autostart.starting(now) or (self._autostart.may_start and not publisher.attempts))
            )
            if flush.check(tail, publisher, starting, now):
                self._flushes.remove(flush)
        if self._arrivals:
            served = {tail: publisher for tail, publisher, *_ in self._found.values()}
            publishers = list(self._publishers.values())
            self._arrivals = [one for one in self._arrivals if not one.check(served, publishers, now)]

    # ---------------------------------------------------------------------------- tidying up

    def _tidy(self, now: float) -> None:
        touched, self._touched = self._touched, set()
        for tail in touched:
            if tail.drained:
                self._guard(tail, now, lambda tail: self._remove(tail, now))
            else:
                self._guard(tail, now, lambda tail: tail.tidy())
        for key, publisher in list(self._publishers.items()):
            if not publisher.tails and not publisher.busy:
                publisher.close()
                del self._publishers[key]

    def _remove(self, tail: WriterTail, now: float) -> None:
        if tail.state.refused:
            self._keep_refusals(tail)
        *_, liveness = self._found[tail.header.writer.hex()]
        if liveness.lock.take():  # else the process took it again: it lives after all
            tidying.remove(tail)
            self._drop(tail, None)

    def _keep_refusals(self, tail: WriterTail) -> None:
        """The folder goes, the reasons stay."""
        folder = home.home() / "refused"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / f"{tail.header.writer.hex()}.json").write_bytes(tail.state.dumps())

    def _may_end(self, now: float) -> bool:
        """Whether nobody needs this sender: no writer lives, and nothing can be delivered."""
        hopeless = not any(tail.lives for tail, *_ in self._found.values()) and all(
            publisher.target is None for publisher in self._publishers.values()
        )
        if self._flushes or self._arrivals or self._folders.unborn or (self._found and not hopeless):
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = now
        limit = (
            max(_NO_SERVER_EXIT_S, self._settings.idle_exit_s) if self._found else self._settings.idle_exit_s
        )
        return now - self._idle_since > limit

    def _close(self) -> None:
        if self._observing is not None:
            self._observing.close()
        while self._asked:
            self._asked.popleft()[1].set_result(_ENDING)
        for flush in self._flushes:
            flush.check(None, None, False, math.inf)
        for arrival in self._arrivals:
            arrival.end()
        for tail, _, found, _ in self._found.values():
            try:
                if tail.folder.exists():
                    tail.save()
            except OSError as error:
                log.error("%s: %s", tail.folder, error)
            tail.close()
            found.lock.close()
        for publisher in self._publishers.values():
            publisher.close()
