"""Asks the sender of a spool root something over its socket. Light: a training process imports it."""

import json
import socket
from typing import Any

from runstream import home


class NoSenderError(Exception):
    """No sender answers there: none runs, or it ended in the middle."""


def ask(root: str, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Send one request, return its answer.

    Raises NoSenderError when no sender listens, TimeoutError when none answers in time.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise NoSenderError("this system has no Unix sockets")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(home.sender_socket(root))
            connection.sendall(json.dumps(request).encode() + b"\n")
            received = bytearray()
            while not received.endswith(b"\n"):
                piece = connection.recv(65536)
                if not piece:
                    raise NoSenderError("the sender ended")
                received += piece
    except TimeoutError:
        raise
    except OSError as error:
        raise NoSenderError(str(error)) from error
    answer = json.loads(received)
    if not isinstance(answer, dict):
        raise NoSenderError("the sender answered something else")
    return answer
