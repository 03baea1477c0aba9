"""Signing in with a browser: a token once, a cookie from then on."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

_COOKIE: Final = "runstream"
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,500}")
_MAX_AGE_S: Final = 90 * 24 * 3600


def cookie_name(host: str | None) -> str:
    """Cookies are shared by all ports of a host, so that the port is in the name."""
    port = re.search(r":(\d+)$", host or "")
    return f"{_COOKIE}-{port.group(1)}" if port else _COOKIE


def bearer(cookies: str | None, host: str | None) -> str | None:
    """The `authorization` header that a request's cookies stand for."""
    wanted = cookie_name(host)
    for part in (cookies or "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == wanted and _TOKEN.fullmatch(value):
            return f"Bearer {value}"
    return None


def set_cookie(token: str, host: str | None, *, secure: bool, path: str = "/") -> str:
    """The value of a `set-cookie` header that keeps a token. Scripts of the page can't read it, and other
    sites can't make a browser send it with a POST."""
    if not _TOKEN.fullmatch(token) or ";" in token or "," in token:
        raise ValueError("a token has no such characters")
    return (
        f"{cookie_name(host)}={token}; Path={path}; Max-Age={_MAX_AGE_S}; HttpOnly; SameSite=Lax"
        f"{'; Secure' if secure else ''}"
    )


def local_path(wanted: str) -> str:
    """A path on this server, `/` for everything that might lead away from it."""
    plain = unquote(wanted)
    if not wanted.startswith("/") or plain.startswith(("//", "/\\")) or "\\" in plain:
        return "/"
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in plain) or not wanted.isascii():
        return "/"
    return wanted
