"""Gives files to a server on this machine: open descriptors, over its Unix socket (docs/formats.md)."""

import json
import os
import socket
from typing import Final

from runstream import home
from runstream.sender.chunks import Piece
from runstream.v1 import artifact_pb2

_ANSWER_S: Final = 300.0  # a busy disk; a server that is gone is noticed at once
_MOST_BYTES: Final = 100_000


class NobodyError(Exception):
    """No such server is on this machine, or it takes no files."""


class NotTakenError(Exception):
    """It did not take it this time."""


def takes_files(server_id: bytes) -> bool:
    """Whether there is a server that `hand_over` may give files to."""
    return bool(server_id) and hasattr(socket, "send_fds") and os.path.exists(home.files_socket(server_id))


def hand_over(server_id: bytes, file: int, offset: int, size: int) -> Piece:
    """Have a chunk of an open file stored. Returns it with the digest that the server computed.

    Raises NobodyError, NotTakenError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_S)
        try:
            connection.connect(home.files_socket(server_id))
        except OSError as error:
            raise NobodyError from error
        try:
            request = json.dumps({"offset": offset, "size": size}).encode() + b"\n"
            socket.send_fds(connection, [request], [file])
            with connection.makefile("rb") as lines:
                answer = json.loads(lines.readline(_MOST_BYTES))
            if "sha256" not in answer:
                raise NotTakenError(str(answer.get("error")))
            sha256 = bytes.fromhex(answer["sha256"])
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise NotTakenError(f"the server on this machine did not answer: {error!r}") from error
    return Piece(artifact_pb2.Chunk(sha256=sha256, size=size), file, offset)
