"""The sender's socket: scripts ask it to flush, who it is, and to make room for a newer one."""

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

log = logging.getLogger("runstream.sender")

Answer = dict[str, Any]
_MOST_BYTES = 1 << 20


class Control:
    """Listens, and hands each request to `handle`, which answers through the future when it can."""

    def __init__(self, path: str, handle: Callable[[Answer, "Future[Answer]"], None]) -> None:
        self._path = path
        self._handle = handle
        try:
            os.unlink(path)  # of a sender that died: this one holds the lock
        except FileNotFoundError:
            pass
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        os.chmod(path, 0o600)
        self._socket.listen(64)
        self._answering = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def close(self) -> None:
        """Stop listening, when the last answers are given."""
        with self._changed:
            self._changed.wait_for(lambda: not self._answering, timeout=1.0)
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(connection,), name="control", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                while line := lines.readline(_MOST_BYTES):
                    with self._counted():
                        connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")
        except OSError:  # the script didn't wait
            pass

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._changed:
            self._answering += 1
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                self._changed.notify_all()

    def _answer(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError("not an object")
        except ValueError as error:
            return {"ok": False, "error": "malformed", "detail": str(error)}
        future: Future[Answer] = Future()
        self._handle(request, future)
        return future.result()
