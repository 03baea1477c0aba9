"""`runstream up`: what it claims, what it refuses, how it ends, how it begins again."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from runstream.v1 import ingest_service_pb2, ingest_service_pb2_grpc
from tests.server import Place, Server, wait_for


def get(url: str, **headers: str) -> tuple[int, str]:
    """Status and body; redirects are not followed."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def health_of(server: Server, service: str = "") -> int:
    with grpc.insecure_channel(server.grpc) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its stubs know no methods
        return int(stub.Check(health_pb2.HealthCheckRequest(service=service)).status)


def test_it_says_where_it_is_and_answers_there(place: Place) -> None:
    server = place.up()
    said = place.log.read_text()
    assert server.grpc in said
    assert f"{server.http}/login?token={server.token}" in said
    assert get(f"{server.http}/healthz")[0] == 200
    serving = health_pb2.HealthCheckResponse.SERVING
    assert health_of(server) == serving
    assert health_of(server, "runstream.v1.IngestService") == serving
    with grpc.insecure_channel(server.grpc) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([asked]))
    assert {"runstream.v1.IngestService", "runstream.v1.QueryService"} <= {
        service.name for service in answer.list_services_response.service
    }
    assert stat.S_IMODE((place.home / "server.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(place.data.stat().st_mode) == 0o700


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_when_asked(place: Place, number: signal.Signals) -> None:
    server = place.up()
    assert server.stop(number) == 0
    assert place.discovery() is None
    again = place.up()
    assert (again.discovery["epoch"], again.token) == (server.discovery["epoch"], server.token)


def test_asked_to_end_while_it_starts(place: Place) -> None:
    process = place.launch("--grpc-port", "0", "--http-port", "0")
    wait_for(place.data.exists, "the data folder")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) in (0, -signal.SIGTERM)  # before or after it minds signals
    assert place.discovery() is None
    place.up()


def test_the_data_has_one_server(place: Place) -> None:
    server = place.up()
    second = place.runstream("up", "--grpc-port", "0", "--http-port", "0")
    assert second.returncode == 1
    assert f"pid {server.process.pid} at {server.http} (gRPC {server.grpc})" in second.stderr
    assert "--data DIR" in second.stderr
    assert "Traceback" not in second.stderr
    discovery = place.discovery()
    assert discovery is not None
    assert int(discovery["pid"]) == server.process.pid


def test_a_taken_port_is_an_error_with_a_way_out(place: Place) -> None:
    server = place.up()
    for option, port in (("--grpc-port", server.grpc), ("--http-port", server.http)):
        other = "--http-port" if option == "--grpc-port" else "--grpc-port"
        taken = port.rpartition(":")[2]
        ended = place.runstream("up", "--data", str(place.root / "b"), option, taken, other, "0")
        assert ended.returncode == 1
        assert f"port {taken} on 127.0.0.1 is taken" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_other_machines_need_a_key_first(place: Place) -> None:
    refused = place.runstream("up", "--host", "0.0.0.0", "--grpc-port", "0", "--http-port", "0")
    assert refused.returncode == 1
    assert "runstream keys add NAME" in refused.stderr
    made = place.runstream("keys", "add", "alice")
    assert made.returncode == 0
    assert place.runstream("keys", "add", "alice").returncode == 1
    assert place.runstream("keys", "list").stdout.startswith("alice\t")
    server = place.up("--host", "0.0.0.0")
    assert server.grpc.startswith("127.0.0.1:")
    key = made.stdout.strip()
    assert answer_to(server, key) is grpc.StatusCode.OK
    assert answer_to(server, server.token) is grpc.StatusCode.OK
    assert place.runstream("keys", "revoke", "alice").returncode == 0
    wait_for(lambda: answer_to(server, key) is grpc.StatusCode.UNAUTHENTICATED, "the key to be refused")


def answer_to(server: Server, token: str) -> grpc.StatusCode:
    """What a write with this token is answered with."""
    with grpc.insecure_channel(server.grpc) as channel:
        stub = ingest_service_pb2_grpc.IngestServiceStub(channel)
        call = stub.PublishOnce.future(
            ingest_service_pb2.PublishOnceRequest(), metadata=(("authorization", f"Bearer {token}"),)
        )
        call.exception()  # waits
        return call.code()


def test_killed_it_begins_again(place: Place) -> None:
    server = place.up()
    server.kill()
    assert place.discovery() is not None  # a leftover
    again = place.up()
    assert again.token == server.token
    assert again.stop() == 0


def test_the_discovery_file_of_a_later_server_stays(place: Place) -> None:
    first = place.up()
    later = place.up("--data", str(place.root / "other"))
    assert f"Until now {place.home}/server.json sent them to the server with pid {first.process.pid}" in (
        place.log.read_text()
    )
    assert first.stop() == 0
    discovery = place.discovery()
    assert discovery is not None
    assert int(discovery["pid"]) == later.process.pid


def test_token_and_link(place: Place) -> None:
    assert place.runstream("token").returncode == 1
    server = place.up()
    assert place.runstream("token").stdout.strip() == server.token
    link = place.runstream("token", "--link").stdout.strip()
    assert link == f"{server.http}/login?token={server.token}"
    server.stop()
    assert place.runstream("token").stdout.strip() == server.token
    assert place.runstream("token", "--link").returncode == 1


def autostarted(place: Place, **environment: str) -> tuple[int, dict[str, str]]:
    """Started as a sender does; (exit code of the launching process if it ended, discovery)."""
    process = place.launch("--autostarted", **environment)

    def listens() -> dict[str, str] | None:
        found = place.discovery()
        assert process.poll() is None, (place.home / "server.log").read_text()
        return found if found is not None and int(found["pid"]) == process.pid else None

    return process.pid, wait_for(listens, "the server to listen")


def test_a_server_on_demand_is_one_keeps_its_ports_and_ends_when_idle(place: Place) -> None:
    probe = place.up()  # two ports that are free, for ports.json: others may be at 7300 now
    free = {"grpc": int(probe.grpc.rpartition(":")[2]), "http": int(probe.http.rpartition(":")[2])}
    probe.stop()
    (place.home / "ports.json").write_text(json.dumps(free))
    pid, found = autostarted(place)
    assert found["autostarted"]
    assert found["grpc"].endswith(f":{free['grpc']}")
    assert found["http"].endswith(f":{free['http']}")
    assert place.launch("--autostarted").wait(60) == 0  # there is one
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    os.kill(pid, signal.SIGTERM)
    assert place.servers[1].wait(60) == 0
    pid, again = autostarted(place, RUNSTREAM_IDLE_EXIT_S="1")
    assert again["grpc"] == found["grpc"]
    assert place.servers[-1].wait(60) == 0
    assert place.discovery() is None
    assert "sign in" in (place.home / "server.log").read_text()


def test_a_server_on_demand_stays_while_it_is_used(place: Place) -> None:
    (place.home).mkdir(mode=0o700)
    _, found = autostarted(place, RUNSTREAM_IDLE_EXIT_S="1.5")
    process = place.servers[-1]
    with grpc.insecure_channel(found["grpc"]) as channel:
        stub = ingest_service_pb2_grpc.IngestServiceStub(channel)
        requests = slow_requests()
        call = stub.Publish(requests, metadata=(("authorization", f"Bearer {found['token']}"),))
        answered = [next(call).request_id for _ in range(3)]  # a second each: longer than the limit
        assert answered == [0, 1, 2]
        assert process.poll() is None
        call.cancel()
    assert process.wait(60) == 0


def slow_requests() -> Iterator[ingest_service_pb2.PublishRequest]:
    """Requests, a second apart."""
    for number in range(100):
        yield ingest_service_pb2.PublishRequest(request_id=number)
        time.sleep(1)
