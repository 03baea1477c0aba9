"""The image and the composition: what they run and set is what there is. Neither is started here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pathspec import PathSpec
from ruamel.yaml import YAML

from runstream_server.config import SETTINGS, read_config
from runstream_server.identity import credentials
from runstream_server.roles import SERVICES, Role
from runstream_store import hot, log, tables
from runstream_store.log.kafka_settings import KafkaSettings

ROOT = Path(__file__).parents[2]
GIVEN = {"RUNSTREAM_TOKEN": "t" * 64, "CLICKHOUSE_PASSWORD": "p" * 32, "S3_SECRET": "s" * 32}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in order."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "deploy" / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def composition() -> dict[str, Any]:
    """compose.yaml, with its variables filled in."""

    def fill(found: re.Match[str]) -> str:
        name, default = found[1], found[2] or ""
        return GIVEN.get(name) or default.removeprefix(":-")

    text = re.sub(r"\$\{(\w+)(:[-?][^}]*)?\}", fill, (ROOT / "deploy" / "compose.yaml").read_text())
    content = YAML(typ="safe").load(text)
    assert isinstance(content, dict)
    return content


def image_settings() -> dict[str, str]:
    (text,) = (what for name, what in instructions() if name == "ENV")
    return dict(pair.split("=", 1) for pair in text.split())


def test_the_image_runs_as_nobody_special() -> None:
    stage = [name for name, _ in instructions()]
    last = dict(instructions()[len(stage) - stage[::-1].index("FROM") :])
    assert int(last["USER"]) >= 10_000
    assert json.loads(last["ENTRYPOINT"]) == ["runstream"]
    ports = {
        str(read_config({}, image_settings()).grpc_port),
        str(read_config({}, image_settings()).http_port),
    }
    assert set(last["EXPOSE"].split()) == ports


def test_every_setting_is_one() -> None:
    known = {setting.environment for setting in SETTINGS} | {"RUNSTREAM_HOME"}
    assert set(image_settings()) <= known
    for service in composition()["services"].values():
        names = [name for name in service.get("environment", {}) if name.startswith("RUNSTREAM_")]
        assert set(names) <= known


@pytest.mark.parametrize("role", SERVICES, ids=lambda role: role.name)
def test_services_start_as_they_are_composed(role: Role) -> None:
    """Their command, with the settings of the image and of the composition, is one that starts."""
    services = composition()["services"]
    service = services[role.name]
    assert service["command"] == [role.name]
    config = read_config({}, {**image_settings(), **service["environment"]}, role=role)
    assert credentials(config)[0].who(GIVEN["RUNSTREAM_TOKEN"]) is not None
    assert log.shared(config.log_url)
    assert tables.shared(config.tables_url)
    assert hot.shared(config.hot_url)
    assert GIVEN["CLICKHOUSE_PASSWORD"] in config.tables_url
    KafkaSettings.parse(config.log_url)
    for address in (config.log_url, config.tables_url, config.hot_url):  # of services that there are
        host = re.split(r"[:/]", address.partition("//")[2].rpartition("@")[2])[0]
        assert host in services
    assert re.search(r"endpoint=http%3A%2F%2F(\w+)%3A", config.objects_url)[1] in services  # type: ignore[index]


def test_its_commands_exist(tmp_path: Path) -> None:
    (check,) = (what for name, what in instructions() if name == "HEALTHCHECK")
    services = composition()["services"]
    commands = [json.loads(check.partition("CMD ")[2])]
    commands += [["runstream", *services[role.name]["command"], "--help"] for role in SERVICES]
    results = []
    environment = {**os.environ, "RUNSTREAM_HTTP_PORT": "1", "RUNSTREAM_HOME": str(tmp_path)}
    for name, *arguments in commands:
        program = str(Path(sys.executable).with_name(name))
        results.append(
            subprocess.run(
                [program, *arguments], env=environment, capture_output=True, text=True, check=False
            )
        )
    assert results[0].returncode == 1
    assert "no server answers at port 1" in results[0].stderr
    assert [result.returncode for result in results[1:]] == [0] * len(SERVICES)


def test_the_wheel_is_built(tmp_path: Path) -> None:
    """The build's own command, on what the image gets to see, without the packages that it would fetch."""
    unseen = PathSpec.from_lines("gitignore", (ROOT / ".dockerignore").read_text().splitlines())

    def ignored(folder: str, names: list[str]) -> list[str]:
        places = {name: Path(folder, name).relative_to(ROOT) for name in names}
        return [name for name, place in places.items() if unseen.match_file(place)]

    source, wheels = tmp_path / "source", tmp_path / "wheels"
    shutil.copytree(ROOT, source, ignore=ignored)
    (build,) = (what for name, what in instructions() if name == "RUN" and "pip wheel" in what)
    command = build.replace("/wheels", str(wheels)).replace("pip", f"{sys.executable} -m pip", 1)
    command = command.removeprefix("make portal && ") + " --no-deps"  # which was made
    done = subprocess.run(command, shell=True, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.glob("runstream-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "runstream/cli.py" in names
    assert "runstream_server/service.py" in names
    assert "runstream_query/docs/cluster.md" in names
    assert "runstream_store/tables/migrations/0001_initial.sql" in names
