"""Bearer tokens: who may talk to the server.

Two kinds. The *local token* is made by a server for the user who started it, and found in files that only
this user reads. *API keys* are made by `KeyFile.add` for other machines and people; only their hashes are
kept, each under a name that is stored with all that is written with it. Both are 256 random bits, so a plain
SHA-256 is enough: there is nothing to guess.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from runstream_store.errors import ConfigError

logger = logging.getLogger(__name__)

LOCAL: Final = "local"
"""Name of the principal with the local token."""

_FORMAT: Final = 1
_PREFIX: Final = "rsk_"  # lets people and secret scanners recognise a key
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_RECHECK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling."""

    name: str
    """`local`, or the name of an API key."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, as it is kept."""

    name: str
    sha256: str
    """Hex digest of the token."""
    created_ns: int
    """When it was made, Unix nanoseconds."""


def local_token(path: Path) -> str:
    """The local token in a file, which is made (mode 0600) when missing."""
    while True:
        try:
            token = path.read_text("ascii").strip()
        except FileNotFoundError:
            pass
        else:
            if len(token) < 32:
                raise ConfigError(f"{path} holds no token; delete it and a new one is made")
            return token
        # Whole before it has its name, so that nobody reads half of it; the first to link it wins.
        made = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        _write_private(made, secrets.token_urlsafe(32) + "\n")
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        finally:
            made.unlink()


class KeyFile:
    """The API keys in a JSON file, readable for its owner only. Several processes may use it at the same
    time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> list[Key]:
        """All keys, in the order in which they were made; none when there is no file.

        :raises ConfigError: the file is no key file, or others than its owner may write to it.
        """
        try:
            with open(self.path, encoding="utf-8") as file:
                if os.fstat(file.fileno()).st_mode & 0o022:
                    raise ConfigError(f"{self.path}: others may write to it; run chmod 600 on it")
                content = json.load(file)
            if content["format"] != _FORMAT:
                raise ConfigError(f"{self.path}: format {content['format']} is unknown to this version")
            return [Key(str(k["name"]), str(k["sha256"]), int(k["created_ns"])) for k in content["keys"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.path}: not a readable key file: {error!r}") from error

    def add(self, name: str) -> str:
        """Makes a key and returns its token, which is not kept and can't be shown again.

        :raises ConfigError: the name is taken or is not a name.
        """
        if not _NAME.fullmatch(name) or name == LOCAL:
            raise ConfigError(
                f"{name!r} is no name for a key: letters, digits and . _ @ -, at most 100, not {LOCAL!r}"
            )
        token = _PREFIX + secrets.token_urlsafe(32)
        with self._changing() as keys:
            if any(key.name == name for key in keys):
                raise ConfigError(f"there is a key named {name!r} already")
            keys.append(Key(name, _digest(token).hex(), time.time_ns()))
        return token

    def revoke(self, name: str) -> None:
        """Removes a key; running servers notice within a second or two.

        :raises ConfigError: there is no such key.
        """
        with self._changing() as keys:
            left = [key for key in keys if key.name != name]
            if len(left) == len(keys):
                raise ConfigError(f"there is no key named {name!r}")
            keys[:] = left

    @contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        """Gives the keys for a change, alone, and writes them back as a whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = self.load()
            yield keys
            made = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            _write_private(made, json.dumps({"format": _FORMAT, "keys": [asdict(k) for k in keys]}, indent=1))
            os.replace(made, self.path)
        finally:
            os.close(lock)


class Authenticator:
    """Tells who a bearer token belongs to. Follows changes of the key file. Safe for many tasks and
    threads."""

    def __init__(
        self,
        token: str | None,
        keys: KeyFile | None = None,
        /,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param token: the local token; None when there is none.
        :param keys: the API keys; None when there are none.
        :param clock: seconds.
        :raises ConfigError: the key file can't be used.
        """
        self._local = None if token is None else _digest(token)
        self._keys = keys
        self._clock = clock
        self._checked = clock()
        self._stamp = self._stat()
        self._digests = self._load()

    def authenticate(self, authorization: str | None, /) -> Principal | None:
        """Who sent this value of the `authorization` header (`Bearer <token>`); None when nobody known
        did."""
        if authorization is None:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        return self.who(token.strip())

    def who(self, token: str, /) -> Principal | None:
        """Whose token this is; None when nobody's."""
        self._follow()
        digest = _digest(token)
        found: Principal | None = None
        if self._local is not None and hmac.compare_digest(digest, self._local):
            found = Principal(LOCAL)
        for name, known in self._digests:  # to the end, whatever was found: the time tells nothing
            if hmac.compare_digest(digest, known):
                found = Principal(name)
        return found

    def has_keys(self) -> bool:
        """Whether there is any API key."""
        self._follow()
        return bool(self._digests)

    def _follow(self) -> None:
        now = self._clock()
        if self._keys is None or now - self._checked < _RECHECK_S:
            return
        self._checked = now
        stamp = self._stat()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._digests = self._load()
        except ConfigError as error:  # a key that was revoked must not live on because of a typing error
            logger.error("no API key is accepted until this is repaired: %s", error)
            self._digests = []

    def _stat(self) -> tuple[int, int, int] | None:
        if self._keys is None:
            return None
        try:
            found = os.stat(self._keys.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _load(self) -> list[tuple[str, bytes]]:
        if self._keys is None:
            return []
        try:
            return [(key.name, bytes.fromhex(key.sha256)) for key in self._keys.load()]
        except ValueError as error:
            raise ConfigError(f"{self._keys.path}: a digest is not hexadecimal") from error


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
