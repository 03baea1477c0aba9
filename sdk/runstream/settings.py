"""The environment variables that scripts, their senders and the command line read: for people.

Each is read where it is used, when it is used. Sender and server have tables of their own; `docs/settings.md`
is made of all, and a test finds variables that are in none.
"""

from typing import NamedTuple


class ClientSetting(NamedTuple):
    """One environment variable."""

    name: str
    default: str
    unit: str
    meaning: str


SETTINGS = (
    ClientSetting(
        "RUNSTREAM_SERVER",
        "",
        "host:port",
        "gRPC address of the server. Default: `server` in the nearest `.runstream/config.json`, else the "
        "server that runs on this machine for this user.",
    ),
    ClientSetting(
        "RUNSTREAM_HTTP_SERVER",
        "",
        "URL",
        "Address of its HTTP port, where reads go. Default: as the server told it, else the gRPC "
        "port plus 1.",
    ),
    ClientSetting(
        "RUNSTREAM_API_KEY",
        "",
        "key",
        "API key for the server. Default: the file `api_key_file` of the configuration; this machine's "
        "own server needs none.",
    ),
    ClientSetting(
        "RUNSTREAM_PUBLIC_URL",
        "",
        "URL",
        "Base of the links that `get_portal_url()` gives. Default: `public_url` of the configuration, "
        "else the address of the HTTP port.",
    ),
    ClientSetting(
        "RUNSTREAM_HOME",
        "~/.local/state/runstream",
        "path",
        "Folder for this user's small state: which server runs, locks and logs of the sender. Follows "
        "`XDG_STATE_HOME`; where that can't be written `/var/tmp/runstream-<uid>/home`.",
    ),
    ClientSetting(
        "RUNSTREAM_SPOOL",
        "",
        "path",
        "Folder for what is logged until it is delivered. Default: `spool` in `RUNSTREAM_HOME` when its "
        "disk is local and writable, else `/var/tmp/runstream-<uid>/spool`, else `$TMPDIR`.",
    ),
    ClientSetting(
        "RUNSTREAM_SPOOL_CAP",
        "8G",
        "bytes",
        "Most that a process may have in its spool; suffixes K, M, G, T. Past it calls wait at most 100 "
        "ms in all, then are counted instead of kept. Files count too, and never take the room of log calls.",
    ),
    ClientSetting(
        "RUNSTREAM_SPOOL_ENGINE",
        "",
        "mmap or append",
        "How the spool is written. Default: `mmap` where the file system reserves space, else `append`.",
    ),
    ClientSetting(
        "RUNSTREAM_AUTOSTART",
        "1",
        "0 or 1",
        "With `runstream[server]` installed and no server configured, the sender starts one. 0 turns that"
        " off; it is off under SLURM, Kubernetes, CI and in launches of several ranks.",
    ),
    ClientSetting(
        "RUNSTREAM_DRAIN",
        "",
        "0 or 1",
        "1: the disk or the processes end with the job, so `complete()` and the end of the script wait up"
        " to 60 s for delivery instead of 2 s. Default: 1 as PID 1 of a container, under SLURM and "
        "Kubernetes.",
    ),
    ClientSetting(
        "RUNSTREAM_MODE",
        "online",
        "online, offline or disabled",
        "offline: what is logged stays in a spool of its own until `runstream sync`. disabled: nothing is "
        "kept and no process started; calls are only checked.",
    ),
    ClientSetting(
        "RUNSTREAM_WORKSPACE",
        "",
        "name",
        "Workspace of `Workspace.from_config()`, whatever a configuration says. Default: `workspace_name` in "
        "the nearest `.runstream/config.json`, else `local`.",
    ),
    ClientSetting(
        "RUNSTREAM_EXPERIMENT",
        "",
        "name",
        "Experiment of the run that `Run.get_context()` gives. Default: named like the script.",
    ),
    ClientSetting(
        "RUNSTREAM_RUN_ID",
        "",
        "run id",
        "Set by a launcher for the script that it runs: the run that `Run.get_context()` gives. How it ends "
        "is said by the launcher.",
    ),
    ClientSetting(
        "RUNSTREAM_RUN_TAKEN",
        "",
        "run id",
        "Set by runstream for the processes that a submitted script starts; not meant to be set by people.",
    ),
    ClientSetting(
        "RUNSTREAM_INTERRUPT",
        "1",
        "0 or 1",
        "1: when somebody cancels the only run that a script has going on, the script is interrupted as by "
        "Ctrl-C. 0: it is only told, by `run.cancel_requested`.",
    ),
    ClientSetting(
        "RUNSTREAM_STRICT",
        "0",
        "0 or 1",
        "1: `Workspace.from_config()` raises when there is no configuration, instead of using "
        "workspace `local`.",
    ),
    ClientSetting(
        "RUNSTREAM_CAPTURE_CONSOLE",
        "1",
        "0 or 1",
        "0: what a run prints is not kept.",
    ),
    ClientSetting(
        "RUNSTREAM_CAPTURE_LOGS",
        "1",
        "0 or 1",
        "0: the files that a run writes into `./logs` are not followed.",
    ),
    ClientSetting(
        "RUNSTREAM_CAPTURE_SYSTEM",
        "1",
        "0 or 1",
        "0: no figures of CPU, memory, disk, network and GPUs under `system/`.",
    ),
    ClientSetting(
        "RUNSTREAM_CAPTURE_SOURCE",
        "1",
        "0 or 1",
        "0: no record of Git state, command line, Python and packages.",
    ),
    ClientSetting(
        "RUNSTREAM_CAPTURE_ENV",
        "",
        "names",
        "Environment variables to record with a run, separated by commas; no others are.",
    ),
    ClientSetting(
        "RUNSTREAM_JOBS",
        "",
        "path",
        "Folder for submitted runs: the copy that the script runs in, what it prints, how far it is. "
        "Default: `jobs` in `RUNSTREAM_HOME`. For SLURM on a file system that the nodes share.",
    ),
    ClientSetting(
        "RUNSTREAM_SNAPSHOT_CAP",
        "2G",
        "bytes",
        "Most that a submitted folder may have, without what `.amlignore` or `.gitignore` leaves out; "
        "suffixes K, M, G, T.",
    ),
    ClientSetting(
        "RUNSTREAM_CANCEL_GRACE_S",
        "10",
        "s",
        "How long a submitted script that is to end may take for it: from SIGTERM to SIGKILL.",
    ),
    ClientSetting(
        "RUNSTREAM_SLURM_OPTIONS",
        "",
        "options",
        "For the batch scripts of runs that are submitted to SLURM, as `--partition=gpu --gres=gpu:1`.",
    ),
    ClientSetting(
        "RUNSTREAM_LAUNCH_ID",
        "",
        "text",
        "Launch that this process belongs to: processes with the same one log to one attempt of a run. "
        "For launchers that are not known.",
    ),
    ClientSetting(
        "RUNSTREAM_PARENT_JOB",
        "",
        "text",
        "Set by runstream for the processes that a script starts; not meant to be set by people.",
    ),
)
