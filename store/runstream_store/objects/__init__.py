"""Object storage: the content of files."""

from __future__ import annotations

from urllib.parse import urlsplit

from runstream_store.errors import ConfigError
from runstream_store.objects.protocol import (
    CHUNK_BYTES,
    LEAVING_S,
    UNTOUCHED_S,
    Buffer,
    Capabilities,
    Objects,
    Swept,
    chunk_key,
)

__all__ = [
    "CHUNK_BYTES",
    "LEAVING_S",
    "UNTOUCHED_S",
    "Buffer",
    "Capabilities",
    "Objects",
    "Swept",
    "chunk_key",
    "open_objects",
]


async def open_objects(url: str) -> Objects:
    """Opens object storage at an address, which chooses the engine.

    `file:///<absolute path>`
        A folder, made when missing.
    `s3://<bucket>[/<prefix>][?option=value…]`, `gs://…`, `az://…`
        A bucket, which must be there. The options are obstore's, such as `endpoint`, `region`,
        `access_key_id` and `secret_access_key` of S3; what is not given comes from the cloud's usual
        environment variables and machine roles.

    :raises ConfigError: there is no such engine, or an option is unknown.
    :raises ObjectsError: the folder can't be made.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        from runstream_store.objects.folder import FolderObjects

        return await FolderObjects.open(url)
    if scheme in ("s3", "gs", "az"):
        from runstream_store.objects.obstore import BucketObjects

        return BucketObjects.open(url)
    raise ConfigError(
        f"no object storage for {url!r}: expected file:///<path>, s3://<bucket>, gs:// or az://"
    )
