"""Files over gRPC and HTTP, as any program uploads and reads them."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import grpc
import pytest

from runstream.v1 import artifact_pb2, artifact_service_pb2, chunk_service_pb2, error_pb2
from tests.server import Place, Server
from tests.uploading import CHUNK, Uploads, chunk_of, parts

MISSING = error_pb2.ERROR_CODE_CHUNK_MISSING


@pytest.fixture(scope="module")
def server(host: Place) -> Server:
    return host.server


@pytest.fixture
def client(server: Server) -> Iterator[Uploads]:
    made = Uploads(server.grpc, server.token, workspace=f"ws-{os.urandom(4).hex()}")
    yield made
    made.close()


def status(call: object) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.RpcError) as caught:
        call()  # type: ignore[operator]
    return caught.value.code(), caught.value.details()


# --------------------------------------------------------------------------------------- chunks


def test_what_was_put_is_found(client: Uploads) -> None:
    data, other = os.urandom(3_000_000), os.urandom(10)
    assert client.find(data, other) == [chunk_of(data).sha256, chunk_of(other).sha256]
    (result,) = client.put(list(parts(data)))
    assert (result.sha256, result.code) == (chunk_of(data).sha256, error_pb2.ERROR_CODE_UNSPECIFIED)
    assert client.find(data, other) == [chunk_of(other).sha256]
    (again,) = client.put(list(parts(data)))
    assert again.code == error_pb2.ERROR_CODE_UNSPECIFIED


def test_small_chunks_share_requests(client: Uploads) -> None:
    contents = [os.urandom(100) for _ in range(500)]
    results = client.put([part for data in contents for part in parts(data)], at_once=100)
    assert {result.sha256 for result in results if not result.code} == {
        chunk_of(data).sha256 for data in contents
    }
    assert client.find(*contents) == []


def test_bytes_that_were_changed_on_the_way_are_refused_and_never_seen(client: Uploads) -> None:
    data, good = os.urandom(2_500_000), os.urandom(1000)
    damaged = list(parts(data))
    damaged[1].data = damaged[1].data[:-1] + bytes([damaged[1].data[-1] ^ 1])
    results = {result.sha256: result for result in client.put([*damaged, *parts(good)])}
    refused = results[chunk_of(data).sha256]
    assert refused.code == error_pb2.ERROR_CODE_MALFORMED
    assert refused.retryable
    assert "digest" in refused.reason
    assert results[chunk_of(good).sha256].code == error_pb2.ERROR_CODE_UNSPECIFIED
    assert client.find(data) == [chunk_of(data).sha256]
    errors = client.publish(client.manifest("r", "a", data))
    assert [(error.code, error.retryable) for error in errors] == [(MISSING, True)]


def test_streams_that_make_no_sense_are_ended(client: Uploads) -> None:
    data = os.urandom(2_500_000)
    first, second, third = parts(data)
    huge = artifact_pb2.Chunk(sha256=bytes(32), size=CHUNK + 1)
    longer = chunk_service_pb2.ChunkPart(chunk=chunk_of(b"x"), data=b"xy")
    for given in (
        [second],
        [first, third],
        [first, first],
        [first, *parts(b"other")],
        [first],
        [longer],
        [chunk_service_pb2.ChunkPart(chunk=huge, data=b"x")],
        [chunk_service_pb2.ChunkPart(chunk=artifact_pb2.Chunk(sha256=b"short", size=1), data=b"x")],
        [chunk_service_pb2.ChunkPart(chunk=chunk_of(b""), data=b"")],
    ):
        code, _ = status(lambda given=given: client.put(given))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
    (result,) = client.put(list(parts(data)))  # the service is well
    assert not result.code


def test_without_a_token_nobody_gets_in(server: Server) -> None:
    client = Uploads(server.grpc, "wrong")
    for call in (
        lambda: client.find(b"x"),
        lambda: client.put(list(parts(b"x"))),
        lambda: client.list("r"),
        lambda: client.read("r", "a"),
    ):
        assert status(call)[0] == grpc.StatusCode.UNAUTHENTICATED
    client.close()


# ------------------------------------------------------------------------------------ manifests


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "../a",
        "a/../../b",
        "a//b",
        ".",
        "a/./b",
        "a\0b",
        "a\nb",
        "a\\b",
        "x" * 5001,
        "/etc/passwd",
    ],
)
def test_names_that_leave_the_tree_are_refused(client: Uploads, path: str) -> None:
    client.upload("r", "good", b"x")
    (error,) = client.publish(client.manifest("r", path, b"x"))
    assert (error.code, error.retryable) == (error_pb2.ERROR_CODE_INVALID, False)
    assert [artifact.path for artifact in client.list("r")] == ["good"]


def test_manifests_that_do_not_fit_are_refused(client: Uploads) -> None:
    client.upload("r", "good", b"x")
    for change in (
        {"size": 2},
        {"sha256": b"short"},
        {"sha256": bytes(32)},
        {"writer": b"short"},
        {"media_type": "x" * 300},
    ):
        manifest = client.manifest("r", "a", b"x")
        for name, value in change.items():
            setattr(manifest, name, value)
        (error,) = client.publish(manifest)
        assert error.code == error_pb2.ERROR_CODE_INVALID, change
    wrong_size = client.manifest("r", "a", b"x")
    wrong_size.size = wrong_size.chunks[0].size = 2
    (error,) = client.publish(wrong_size)
    assert error.code == error_pb2.ERROR_CODE_INVALID
    in_pieces = client.manifest("r", "a", b"xx")
    in_pieces.ClearField("chunks")
    in_pieces.chunks.extend([chunk_of(b"x"), chunk_of(b"x")])
    (error,) = client.publish(in_pieces)
    assert error.code == error_pb2.ERROR_CODE_INVALID


def test_what_was_uploaded_is_listed_and_read(client: Uploads) -> None:
    contents = {f"d/{n:02}.bin": os.urandom(10 * n) for n in range(20)}  # the first is empty
    for path, data in contents.items():
        client.upload("r", path, data)
    client.upload("other", "d/00.bin", b"of another run")
    listed = client.list("r")
    assert [(a.path, a.size, a.sha256, a.version, a.versions) for a in listed] == [
        (path, len(data), hashlib.sha256(data).digest(), 1, 1) for path, data in contents.items()
    ]
    for path, data in contents.items():
        assert client.read("r", path) == data
    assert [a.path for a in client.list("r", prefix="d/0")] == [f"d/{n:02}.bin" for n in range(10)]
    assert client.list("unknown") == []


def test_pages(client: Uploads) -> None:
    paths = [f"{n:03}" for n in range(25)]
    for path in paths:
        client.upload("r", path, path.encode())
    request = artifact_service_pb2.ListArtifactsRequest(
        run=client.run("r"), page_size=10, barrier=client.barrier()
    )
    found = []
    while True:
        page = client.artifacts.ListArtifacts(request, metadata=client.metadata)
        assert page.total == 25
        found.append([artifact.path for artifact in page.artifacts])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == [paths[:10], paths[10:20], paths[20:]]
    request.prefix = "0"
    assert status(lambda: client.artifacts.ListArtifacts(request, metadata=client.metadata))[0] == (
        grpc.StatusCode.INVALID_ARGUMENT
    )


def test_the_newest_content_counts_and_the_older_stays(client: Uploads) -> None:
    for data in b"one", b"one", b"two", b"one", b"one":
        client.upload("r", "a", data)
    (newest,) = client.list("r")
    assert (newest.version, newest.versions, newest.size) == (3, 3, 3)
    versions = client.list("r", all_versions=True)
    assert [(v.version, v.versions) for v in versions] == [(1, 3), (2, 3), (3, 3)]
    assert versions[2].time_ns == newest.time_ns
    assert [client.read("r", "a", version=n) for n in range(4)] == [b"one", b"one", b"two", b"one"]
    assert status(lambda: client.read("r", "a", version=4))[0] == grpc.StatusCode.NOT_FOUND
    assert status(lambda: client.read("r", "b"))[0] == grpc.StatusCode.NOT_FOUND


def test_a_manifest_that_comes_twice_is_one(client: Uploads) -> None:
    client.upload("r", "a", b"one")
    manifest = client.manifest("r", "a", b"one")
    for _ in range(3):
        assert client.publish(manifest) == []
    assert [(a.path, a.versions) for a in client.list("r")] == [("a", 1)]


def test_files_of_several_chunks(client: Uploads) -> None:
    data = os.urandom(1 << 20) * 70
    client.upload("r", "large", data)
    assert client.read("r", "large") == data
    assert client.read("r", "large", offset=CHUNK - 5, length=10) == data[CHUNK - 5 : CHUNK + 5]


def test_ranges_and_pages_of_bytes(client: Uploads) -> None:
    data = os.urandom(3_000_000)
    client.upload("r", "a", data)
    assert client.read("r", "a", offset=7, length=9) == data[7:16]
    assert client.read("r", "a", offset=2_999_999) == data[-1:]
    assert client.read("r", "a", offset=3_000_000) == b""
    assert client.read("r", "a", length=0) == b""
    assert status(lambda: client.read("r", "a", offset=3_000_001))[0] == grpc.StatusCode.INVALID_ARGUMENT
    request = artifact_service_pb2.GetArtifactPageRequest(
        request=artifact_service_pb2.GetArtifactRequest(run=client.run("r"), path="a"), page_bytes=1_000_001
    )
    read = b""
    while True:
        page = client.artifacts.GetArtifactPage(request, metadata=client.metadata)
        read += page.data
        if not page.next_offset:
            break
        request.request.offset = page.next_offset
    assert read == data


# ----------------------------------------------------------------------------------------- HTTP


def get(
    server: Server, path: str, method: str = "GET", token: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    address = urlsplit(server.http)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    given = {"authorization": f"Bearer {server.token if token is None else token}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=given)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def address(client: Uploads, path: str, run: str = "r") -> str:
    return f"/w/{client.workspace}/r/{run}/files/{quote(path)}"


def test_downloads(server: Server, client: Uploads) -> None:
    data = os.urandom(2_000_000)
    client.upload("r", "größe/a b?.bin", data)
    where = address(client, "größe/a b?.bin")
    code, headers, body = get(server, where)
    assert (code, body) == (200, data)
    assert headers["content-length"] == "2000000"
    assert headers["etag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert quote("a b?.bin") in headers["content-disposition"]
    code, same, body = get(server, where, "HEAD")
    assert (code, body, same["content-length"]) == (200, b"", "2000000")
    code, _, body = get(server, where, if_none_match=headers["etag"])
    assert (code, body) == (304, b"")
    client.upload("r", "shown.txt", b"x")
    shown = address(client, "shown.txt")
    assert get(server, shown)[1]["content-disposition"].startswith("inline")
    assert get(server, shown + "?download")[1]["content-disposition"].startswith("attachment")
    assert get(server, where, token="wrong")[0] == 401
    assert get(server, where, "POST")[0] == 405
    assert get(server, address(client, "nothing"))[0] == 404
    assert get(server, where + "?version=2")[0] == 404
    assert get(server, where + "?version=x")[0] == 400
    for escape in "../../../etc/passwd", "%2e%2e/%2e%2e/keys.json", "..%2f..%2fkeys.json":
        assert get(server, f"/w/{client.workspace}/r/r/files/{escape}")[0] == 404


@pytest.mark.parametrize(
    ("wanted", "code", "low", "high"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=5-9", 206, 5, 10),
        ("bytes=990-", 206, 990, 1000),
        ("bytes=-10", 206, 990, 1000),
        ("bytes=-5000", 200, 0, 1000),
        ("bytes=0-5000", 200, 0, 1000),
        ("bytes=1000-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=0-1,5-6", 200, 0, 1000),
        ("bytes=9-5", 200, 0, 1000),
        ("lines=1-2", 200, 0, 1000),
    ],
)
def test_ranges_of_downloads(
    server: Server, client: Uploads, wanted: str, code: int, low: int, high: int
) -> None:
    data = os.urandom(1000)
    client.upload("r", "a", data)
    found, headers, body = get(server, address(client, "a"), range=wanted)
    assert (found, body) == (code, data[low:high])
    if code == 206:
        assert headers["content-range"] == f"bytes {low}-{high - 1}/1000"
    if code == 416:
        assert headers["content-range"] == "bytes */1000"
    found, _, body = get(server, address(client, "a"), range=wanted, if_range='"another"')
    assert (found, body) == (200, data)


@pytest.mark.parametrize(
    ("media", "shown", "sent"),
    [
        ("image/png", True, "image/png"),
        ("text/plain", True, "text/plain; charset=utf-8"),
        ("application/json", True, "text/plain; charset=utf-8"),
        ("text/html", False, "application/octet-stream"),
        ("image/svg+xml", False, "application/octet-stream"),
        ("application/xhtml+xml", False, "application/octet-stream"),
        ("text/javascript", False, "application/octet-stream"),
        ("application/pdf", False, "application/octet-stream"),
        ("", False, "application/octet-stream"),
        ("text/html\r\nx-evil: 1", False, "application/octet-stream"),
    ],
)
def test_what_could_carry_a_script_is_saved_not_shown(
    server: Server, client: Uploads, media: str, shown: bool, sent: str
) -> None:
    client.upload("r", "other", b"<script>")
    manifest = client.manifest("r", "a", b"<script>")
    manifest.media_type = media
    assert client.publish(manifest) == []
    code, headers, _ = get(server, address(client, "a"))
    assert (code, headers["content-type"]) == (200, sent)
    assert headers["content-disposition"].startswith("inline" if shown else "attachment")
    assert "x-evil" not in headers
    _, headers, _ = get(server, address(client, "a") + "?download=1")
    assert headers["content-disposition"].startswith("attachment")


def test_the_same_over_connect_with_json(server: Server, client: Uploads) -> None:
    client.upload("r", "a", b"one")
    at = urlsplit(server.http)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=60)
    connection.request(
        "POST",
        "/runstream.v1.ArtifactService/ListArtifacts",
        json.dumps({"run": {"workspace": client.workspace, "run": "r"}}),
        {"authorization": f"Bearer {server.token}", "content-type": "application/json"},
    )
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    assert answer.status == 200
    assert [(a["path"], a["size"], a["version"]) for a in found["artifacts"]] == [("a", "3", 1)]
