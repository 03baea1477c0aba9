"""Digest of identities, by which what is stored is compared with what was logged (docs/formats.md, "Digest").

A sum, so it can be computed in any order and in parts: by the sender while it ships, by the tables' engine
over what it holds, and subtracted for what was refused.
"""

from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

MASK: Final = (1 << 64) - 1
_SEQ: Final = 0x9E3779B97F4A7C15
_IDX: Final = 0xC2B2AE3D27D4EB4F
_MIX: Final = 0xD6E8FEB86659FD93

_X: Final = f"(seq + 1) * {_SEQ} + idx * {_IDX}"
_Y: Final = f"bitXor(({_X} AS x), bitShiftRight(x, 32)) * {_MIX}"
SQL: Final = f"bitXor(({_Y} AS y), bitShiftRight(y, 29))"
"""`mix` for the tables' engine, of columns `seq` (UInt64) and `idx` (UInt32). Makes the names x and y."""


def mix(seq: npt.NDArray[np.int64] | U64, idx: npt.NDArray[np.uint32] | None) -> U64:
    """Each element's place in the writer as a number that looks random; idx None: 0."""
    x = seq.astype(np.uint64)
    x += np.uint64(1)
    x *= np.uint64(_SEQ)
    if idx is not None:
        x += idx * np.uint64(_IDX)
    x ^= x >> np.uint64(32)
    x *= np.uint64(_MIX)
    x ^= x >> np.uint64(29)
    return x


def factor(metric: str, column: str) -> int:
    """What the sum of a series is multiplied by: odd, 64 bits."""
    name = b"%s\0%s" % (metric.encode(), column.encode())
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little") | 1


def of_seqs(seqs: "list[int]") -> int:
    """Digest of events, by their sequence numbers."""
    return int(mix(np.array(seqs, np.uint64), None).sum()) if seqs else 0
