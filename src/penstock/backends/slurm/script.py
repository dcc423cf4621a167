"""From a batch to what ``sbatch`` is given: its arguments, and the job script. Pure.

Everything travels in the script, so that nothing needs a file system that server and nodes share:
Slurm keeps it where only root, its own user and the job's owner can read it. Environment and files
are one block of base64, which no shell looks into; all that a shell reads is quoted.
"""

from __future__ import annotations

import base64
import importlib.resources
import json
import math
import os
import re
import shlex
import zlib

from penstock.model.errors import Rejected
from penstock.model.job import Batch
from penstock.settings.backends import SlurmJobSettings

MAX_SCRIPT = 4 * 2**20
"""Bytes of a script that Slurm takes (``max_script_size`` of SchedulerParameters, slurm.conf(5))."""

NO_DIRECTORY = 125
"""Exit code of a job that could not make its private directory."""

NO_COMMAND = 127
"""Exit code of a job whose command is not on the node, as every shell has it."""

DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")
"""What Slurm sets in a job with GPUs (gres/gpu, ``--gpus`` in sbatch(1))."""

_LONGEST = 131_072
"""Bytes of one argument or ``NAME=value`` that Linux takes (MAX_ARG_STRLEN, execve(2))."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_SCRIPT = """\
#!/bin/sh
# Penstock: {role} of cluster {cluster}.
# The block below holds the environment and the files of the job; its Python unpacks them.
trap : HUP INT TERM USR1 USR2
tag={tag}
index=$SLURM_ARRAY_TASK_ID
logs={logs}
directory=$(mktemp -d {scratch}/penstock-"$tag-$index".XXXXXX) || exit {no_directory}
# scancel signals rm too, which would leave the directory behind if it listened.
trap 'trap "" HUP INT TERM USR1 USR2; rm -rf -- "$directory"' EXIT
log=$directory/output
if [ -n "$logs" ]; then (
  umask 077
  [ -d "$logs" ] || mkdir -- "$logs"
  [ -d "$logs/$tag" ] || mkdir -- "$logs/$tag"
  true >>"$logs/$tag/$index.log"
) 2>/dev/null && log=$logs/$tag/$index.log; fi
exec >>"$log" 2>&1
{assignments}{python} -I -S -c {bootstrap} "$directory/job" "$tag" "$index" <<'PENSTOCK'
{payload}PENSTOCK
exit
"""


def check(batch: Batch, *, most: int) -> None:
    """Whether such a batch can be at all. Raises Rejected with the reason."""
    if not 1 <= batch.count <= most:
        raise Rejected(f"a batch in this Slurm has 1 to {most} jobs, not {batch.count}")
    if not batch.command or not batch.command[0] or _CONTROL.search(batch.command[0]):
        raise Rejected("the command of a job must be the path or name of a Python")
    for word in batch.command:
        _fits(f"argument {word[:40]!a}", word)
    for key, value in batch.env.items():
        if not key or "=" in key:
            raise Rejected(f"{key[:40]!a} cannot be the name of an environment variable")
        _fits(f"environment variable {key[:40]!a}", f"{key}={value}")
    for name in batch.files:
        if name in ("", ".", "..") or "/" in name or "\0" in name or len(name) > 200:
            raise Rejected(f"{name[:40]!a} cannot be the name of a file of a job")


def _fits(what: str, text: str) -> None:
    if "\0" in text:
        raise Rejected(f"{what} holds a NUL character, which no program can be given")
    try:
        size = len(os.fsencode(text))
    except UnicodeEncodeError:
        raise Rejected(f"{what} is not text that UTF-8 can hold") from None
    if size >= _LONGEST:
        raise Rejected(f"{what} has {size} bytes, and Linux takes at most {_LONGEST - 1}")


def job_name(batch: Batch) -> str:
    """What ``squeue`` shows: role and cluster."""
    return f"dask-{batch.role.value}-{batch.id.cluster}"


def arguments(batch: Batch, jobs: SlurmJobSettings) -> list[str]:
    """The arguments of ``sbatch``; everybody on the gateway's machine can read them."""
    resources = batch.resources
    words = [
        "--parsable",
        f"--array=0-{batch.count - 1}",
        f"--job-name={job_name(batch)}",
        f"--comment={batch.id.tag}",
        "--no-requeue",  # the core replaces what is lost; a second run of an index is a stranger
        "--chdir=/",
        "--input=/dev/null",
        "--output=/dev/null",  # the script keeps its own; Slurm fails a job whose file it cannot open
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={max(1, math.ceil(resources.cores))}",
        f"--mem={max(1, math.ceil(resources.memory / 2**20))}M",
    ]
    gres = [f"gpu:{resources.gpus}"] if resources.gpus else []
    gres += [jobs.gres] if jobs.gres else []
    if gres:
        words.append(f"--gres={','.join(gres)}")
    if jobs.time is not None:
        words.append(f"--time={max(1, math.ceil(jobs.time / 60))}")
    for name in (
        *("partition", "account", "qos", "reservation", "constraint"),
        *("nodelist", "exclude", "licenses"),
    ):
        value = getattr(jobs, name)
        if value is not None:
            words.append(f"--{name}={value}")
    return [*words, *jobs.arguments]


def job_script(batch: Batch, logs: str, scratch: str | None) -> bytes:
    """The script of all jobs of a batch.

    ``logs``: the directory for their output on the nodes, empty when it lives and goes with the
    job. ``scratch``: where private directories are made, None for the node's ``$TMPDIR`` or /tmp.
    Raises Rejected when Slurm would not take it.
    """
    lookup = {name: batch.env[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in batch.env}
    script = _SCRIPT.format(
        role=batch.role.value,
        cluster=batch.id.cluster,
        tag=shlex.quote(batch.id.tag),
        logs=shlex.quote(logs),
        scratch='"${TMPDIR:-/tmp}"' if scratch is None else shlex.quote(scratch),
        no_directory=NO_DIRECTORY,
        # The job's Python may need them to be found and to start at all.
        assignments="".join(
            f"{name}={shlex.quote(value)} "
            for name, value in lookup.items()
            if not _CONTROL.search(value)
        ),
        python=shlex.quote(batch.command[0]),
        bootstrap=shlex.quote(_bootstrap()),
        payload=payload(batch),
    )
    data = os.fsencode(script)
    if len(data) > MAX_SCRIPT:
        raise Rejected(
            f"environment and files of the job are {len(data)} bytes as a job script, and Slurm "
            f"takes at most {MAX_SCRIPT}; put large data into a file"
        )
    return data


def payload(batch: Batch) -> str:
    """What ``bootstrap`` unpacks, in lines of base64."""
    content = {
        "command": [_text(os.fsencode(word)) for word in batch.command],
        "env": {_text(os.fsencode(k)): _text(os.fsencode(v)) for k, v in batch.env.items()},
        "files": {_text(os.fsencode(k)): _text(v) for k, v in batch.files.items()},
        "devices": DEVICES if batch.resources.gpus else (),
    }
    return base64.encodebytes(zlib.compress(json.dumps(content).encode())).decode()


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bootstrap() -> str:
    return importlib.resources.files(__package__).joinpath("bootstrap.py").read_text("utf-8")
