"""Page tokens: where a paged read goes on.

A token is opaque to callers and good only for the request that it was given for: it carries a digest of it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from runstream_query.errors import InvalidArgument


def digest(*parts: bytes | str) -> str:
    """Short digest of what a token is bound to."""
    whole = hashlib.blake2b(digest_size=9)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "little") + data)
    return base64.urlsafe_b64encode(whole.digest()).decode()


def encode(bound_to: str, place: list[Any]) -> str:
    """A token for a place: a list of what JSON can hold."""
    data = json.dumps([bound_to, *place], ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(bound_to: str, token: str, *kinds: type | tuple[type, ...]) -> list[Any]:
    """The place of a token.

    :param kinds: types of the place's parts.
    :raises InvalidArgument: it is no token, or one of another request.
    """
    try:
        found, *place = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise InvalidArgument("page_token is not a token of this service") from None
    if found != bound_to:
        raise InvalidArgument(
            "page_token belongs to another request: pages must be asked for with the request of the first"
        )
    if len(place) != len(kinds) or not all(map(isinstance, place, kinds)):
        raise InvalidArgument("page_token is not a token of this version")
    return list(place)
