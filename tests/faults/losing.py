"""A TCP proxy that can lose what comes back: data arrive, acknowledgements don't."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class LosingProxy:
    """Between senders and a port. Threads, since the tests around it block."""

    def __init__(self, host: str, port: int) -> None:
        self._to = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._losing = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.lost_bytes = 0
        """Bytes of answers that were swallowed."""
        self.connections = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def lose(self) -> None:
        """From now on answers are swallowed."""
        self._losing.set()

    def cut(self) -> None:
        """Ends all connections, and lets answers through again in new ones."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._losing.clear()

    def close(self) -> None:
        """Ends it."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                far = socket.create_connection(self._to, 5.0)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self.connections += 1
            with self._lock:
                self._open |= {near, far}
            for source, sink, back in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pump, args=(source, sink, back), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if back and self._losing.is_set():
                    self.lost_bytes += len(data)
                    continue
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()
