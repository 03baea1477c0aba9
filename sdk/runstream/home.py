"""Where runstream keeps its small files, and how a server is found.

`home()` holds the discovery file of this user's server, the ports it chose, and the sender's locks
and logs. Everything here is light: a training process imports it.

    home()/server.json      the server that runs on this machine for this user (0600)
    home()/servers.json     HTTP addresses of other servers, as their senders learned them
    home()/ports.json       ports of the server that starts on demand, so that links stay good
    home()/sender-*.lock    one sender per spool root
"""

import json
import os
import stat
import sys
from pathlib import Path
from typing import NamedTuple

DEFAULT_GRPC_PORT = 7300
DEFAULT_HTTP_PORT = 7301
_CONFIG_PLACES = (".runstream/config.json", ".azureml/config.json", "aml_config/config.json")
_MOST_CONFIG_BYTES = 1 << 20


# ------------------------------------------------------------------------------------- folders


def user_key() -> str:
    """Short text that tells this user from the others of the machine."""
    if sys.platform != "win32":
        return str(os.getuid())
    else:
        return "".join(c for c in os.environ.get("USERNAME", "user") if c.isalnum()) or "user"


def _private_folder(path: Path) -> Path:
    """Make the folder, for this user only. Raises OSError when it can't be made or is another's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform != "win32":
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):  # a link is followed only to a folder of ours
            found = os.stat(path)
        if found.st_uid != os.getuid():
            raise PermissionError(f"{path} belongs to another user (uid {found.st_uid})")
        if found.st_mode & 0o077:
            os.chmod(path, 0o700)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} is not writable")
    return path


def home() -> Path:
    """Folder for this user's state: RUNSTREAM_HOME, else the XDG state folder, else one in /var/tmp.

    It exists, belongs to this user and has mode 0700. Raises OSError when that can't be had.
    """
    explicit = os.environ.get("RUNSTREAM_HOME")
    if explicit:
        return _private_folder(Path(explicit).expanduser().absolute())
    try:
        state = os.environ.get("XDG_STATE_HOME")
        base = Path(state) if state else Path.home() / ".local" / "state"
        return _private_folder(base / "runstream")
    except (OSError, RuntimeError):  # read-only or no home folder at all
        return _private_folder(_private_folder(Path(f"/var/tmp/runstream-{user_key()}")) / "home")


def default_data_folder() -> Path:
    """A server's data folder unless told: RUNSTREAM_DATA, RUNSTREAM_HOME/data, else in XDG data."""
    explicit = os.environ.get("RUNSTREAM_DATA")
    if explicit:
        return Path(explicit).expanduser().absolute()
    if os.environ.get("RUNSTREAM_HOME"):
        return home() / "data"
    xdg = os.environ.get("XDG_DATA_HOME")
    try:
        return (Path(xdg) if xdg else Path.home() / ".local" / "share") / "runstream"
    except RuntimeError:
        return home() / "data"


def digest(data: bytes, size: int) -> str:
    """BLAKE2b of so many bytes, in hexadecimal."""
    try:
        from _blake2 import blake2b  # hashlib has the same, and loads OpenSSL for some 4 ms
    except ImportError:
        from hashlib import blake2b
    return blake2b(data, digest_size=size).hexdigest()


def _digest(spool_root: str | os.PathLike[str]) -> str:
    return digest(os.fsencode(os.path.realpath(spool_root)), 8)


def sender_lock(spool_root: str | os.PathLike[str]) -> Path:
    """File whose POSIX record lock the sender of this spool root holds as long as it lives."""
    return home() / f"sender-{_digest(spool_root)}.lock"


def sender_log(spool_root: str | os.PathLike[str]) -> Path:
    """File that takes the sender's output."""
    return home() / f"sender-{_digest(spool_root)}.log"


def sender_socket(spool_root: str | os.PathLike[str]) -> str:
    """Unix socket of the sender of this spool root.

    Not under `home()` when it can be helped: a socket's path may have no more than 107 bytes.
    """
    return str(_socket_folder() / f"{_digest(spool_root)}.sock")


def files_socket(server_id: bytes) -> str:
    """Unix socket at which a server of this user on this machine takes files, by its data's identity."""
    return str(_socket_folder() / f"files-{server_id.hex()}.sock")


def _socket_folder() -> Path:
    """Only this user can enter it."""
    try:
        return _private_folder(Path(f"/tmp/runstream-{user_key()}"))
    except OSError:  # somebody took the name
        return home()


# ------------------------------------------------------------------------------- small JSON files


def read_json(path: Path) -> dict[str, object] | None:
    """The file's object; None when absent, unreadable, another user's, or not an object."""
    try:
        with open(path, encoding="utf-8") as file:
            if sys.platform != "win32" and os.fstat(file.fileno()).st_uid not in (os.getuid(), 0):
                return None
            content = json.load(file)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: dict[str, object]) -> None:
    """Replace the file as a whole, readable for this user only."""
    made = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    os.replace(made, path)


def read_ports() -> tuple[int, int] | None:
    """(gRPC, HTTP) ports of the server that starts on demand; None before its first start."""
    content = read_json(home() / "ports.json") or {}
    grpc, http = content.get("grpc"), content.get("http")
    return (grpc, http) if isinstance(grpc, int) and isinstance(http, int) else None


def write_ports(grpc: int, http: int) -> None:
    """Keep the ports for later starts."""
    write_json(home() / "ports.json", {"grpc": grpc, "http": http})


def learn_http(grpc: str, http: str) -> None:
    """Remember the HTTP address that the server at a gRPC address told of itself."""
    known = read_json(home() / "servers.json") or {}
    address = normal_address(grpc)
    if known.get(address) != http:
        write_json(home() / "servers.json", {**known, address: http})


# ------------------------------------------------------------------------------------ discovery


class Discovery(NamedTuple):
    """The server of this user on this machine, as its discovery file says."""

    grpc: str  # host:port
    http: str  # base URL
    pid: int
    token: str
    started_ns: int
    data: str
    version: str
    epoch: str  # of the log, hex
    autostarted: bool

    def alive(self) -> bool:
        """False when its process is gone, so that the file is a leftover."""
        if sys.platform == "win32":
            return True  # signal 0 would end the process there
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        return True


def tell_start_of(server: Discovery) -> bool:
    """Whether a start of a server is still to be told to its user. True once."""
    path = home() / "told.json"
    if (read_json(path) or {}).get("started_ns") == server.started_ns:
        return False
    write_json(path, {"started_ns": server.started_ns})
    return True


def discovery_path() -> Path:
    """The discovery file."""
    return home() / "server.json"


def read_discovery() -> Discovery | None:
    """What the discovery file says; None without one that can be trusted. It may be a leftover: `alive()`."""
    try:
        content = read_json(discovery_path())
    except OSError:
        return None
    if content is None:
        return None
    try:
        return Discovery(
            grpc=str(content["grpc"]),
            http=str(content["http"]),
            pid=int(str(content["pid"])),
            token=str(content["token"]),
            started_ns=int(str(content.get("started_ns", 0))),
            data=str(content.get("data", "")),
            version=str(content.get("version", "")),
            epoch=str(content.get("epoch", "")),
            autostarted=bool(content.get("autostarted", False)),
        )
    except (KeyError, ValueError):
        return None


def write_discovery(found: Discovery) -> None:
    """Tell this user's scripts where the server listens. Called when it does."""
    write_json(discovery_path(), dict(found._asdict()))


def remove_discovery(pid: int) -> None:
    """Remove the discovery file if it is of the server with this pid."""
    found = read_discovery()
    if found is not None and found.pid == pid:
        discovery_path().unlink(missing_ok=True)


# ------------------------------------------------------------------------------- configuration


class ClientConfig(NamedTuple):
    """A config.json: which workspace, and where its server is. Absent keys are None."""

    path: Path
    workspace_name: str | None
    server: str | None
    http_server: str | None
    public_url: str | None
    api_key_file: str | None  # absolute
    subscription_id: str | None = None
    resource_group: str | None = None


def find_config(start: str | os.PathLike[str] | None = None) -> Path | None:
    """The nearest configuration at or above a folder (default: the working directory).

    At each level `.runstream/config.json` comes before `.azureml/config.json` and `aml_config/config.json`.
    After all of these comes a `config.json` of the folder itself, if it names a workspace and where it is:
    many programs have a file of that name.
    """
    try:
        folder = Path(start or os.getcwd()).absolute()
    except OSError:  # the working directory was removed
        return None
    levels = (folder, *folder.parents)
    for level in levels:
        for place in _CONFIG_PLACES:
            path = level / place
            try:
                if path.is_file():
                    return path
            except OSError:
                continue
    return next((path for level in levels if _is_plain_config(path := level / "config.json")), None)


def _is_plain_config(path: Path) -> bool:
    """Whether a file with a common name is a configuration of ours."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_CONFIG_BYTES:
            return False
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False
    return (
        isinstance(content, dict)
        and isinstance(content.get("workspace_name"), str)
        and ("subscription_id" in content or "server" in content)
    )


def load_config(path: str | os.PathLike[str]) -> ClientConfig:
    """Read a configuration. Raises OSError when unreadable, ValueError when it is not one."""
    path = Path(path).absolute()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object")

    def text(key: str) -> str | None:
        value = content.get(key)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{path}: {key} is not a text")
        return value or None

    key_file = text("api_key_file")
    if key_file is not None:  # relative to the folder that holds the configuration's folder
        key_file = os.path.join(path.parent.parent, os.path.expanduser(key_file))
    return ClientConfig(
        path,
        text("workspace_name"),
        text("server"),
        text("http_server"),
        text("public_url"),
        key_file,
        text("subscription_id"),
        text("resource_group"),
    )


# ------------------------------------------------------------------------------ finding a server


class Target(NamedTuple):
    """A server, how it was found, and what to show it."""

    grpc: str  # host:port
    http: str  # base URL without a slash at the end
    token: str | None
    source: str  # "explicit", "environment", "config" or "discovery"
    token_source: str | None  # "environment", "file" or "discovery"

    def advice(self) -> str:
        """What to look at when it doesn't answer."""
        if self.source == "discovery":
            return "Is it running? `runstream up` starts one"
        named = {"environment": "RUNSTREAM_SERVER", "config": "the configuration's `server`"}
        return (
            f"Is it running, and is {self.grpc} its gRPC port (7300 unless it was changed)? "
            f"{named.get(self.source, 'The server that was given')} names that one; the HTTP port is found "
            "from it, or named by RUNSTREAM_HTTP_SERVER"
        )


def normal_address(address: str) -> str:
    """host:port with this machine's name for itself spelled in one way and the default port filled in."""
    scheme, separator, rest = address.strip().partition("://")
    address = (rest if separator else scheme).partition("/")[0]
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and host[0] != "["):  # no port; a bare IPv6 address
        host, port = address, str(DEFAULT_GRPC_PORT)
    if host == "localhost":
        host = "127.0.0.1"
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{host}:{port}"


def resolve_server(
    explicit: str | None = None,
    *,
    credential: str | os.PathLike[str] | None = None,
    config: ClientConfig | None = None,
    use_environment: bool = True,
    told_http: str | None = None,
) -> Target | None:
    """The server to talk to; None when nothing says where one is. Never asks the network.

    `explicit` (an address that was settled before, as in a spool's header) wins over RUNSTREAM_SERVER, then
    come the configuration (`config`, else the nearest one) and the discovery file. The key is that in the
    file `credential`, RUNSTREAM_API_KEY, that of the configuration, or for the server of the discovery file
    its token: another server never gets that. Without `use_environment` (the sender: its environment is that
    of whichever script started it) only `explicit`, `credential` and the discovery file count. `told_http` is
    where the server said just now that it is read; who names an address wants that one.
    """
    environment = os.environ if use_environment else {}
    if use_environment and config is None:
        config = _nearest_config()
    found = read_discovery()
    address, source = explicit, "explicit"
    if not address:
        address, source = environment.get("RUNSTREAM_SERVER"), "environment"
    if not address and config is not None:
        address, source = config.server, "config"
    if not address:
        if found is None:
            return None
        address, source = found.grpc, "discovery"
    grpc = normal_address(address)
    if found is not None and normal_address(found.grpc) != grpc:
        found = None

    http = environment.get("RUNSTREAM_HTTP_SERVER")
    if not http and config is not None and source == "config":
        http = config.http_server
    if not http:
        http = told_http or (found.http if found else _learned_http(grpc))
    if "://" not in http:
        http = f"http://{http}"

    token, token_source = _read_token(credential), "file"
    if token is None:
        token, token_source = environment.get("RUNSTREAM_API_KEY") or None, "environment"
    if token is None and config is not None and (source == "config" or found is None):
        token, token_source = _read_token(config.api_key_file), "file"
    if token is None and found is not None:
        token, token_source = found.token, "discovery"
    return Target(grpc, http.rstrip("/"), token, source, token_source if token else None)


def _nearest_config() -> ClientConfig | None:
    path = find_config()
    try:
        return load_config(path) if path else None
    except (OSError, ValueError):  # Workspace.from_config says it; logging goes on without
        return None


def _learned_http(grpc: str) -> str:
    """HTTP address of a server other than the discovery file's: as it told its sender, else the next port."""
    try:
        learned = (read_json(home() / "servers.json") or {}).get(grpc)
    except OSError:
        learned = None
    if isinstance(learned, str) and learned:
        return learned
    host, _, port = grpc.rpartition(":")
    return f"http://{host}:{int(port) + 1}"


def _read_token(path: str | os.PathLike[str] | None) -> str | None:
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(10_000).strip() or None
    except (OSError, ValueError):
        return None
