"""From a batch to what ``sbatch`` is given: its arguments, and the job script. Pure.

Everything travels in the script, so that nothing needs a file system that server and nodes share:
Slurm keeps it where only root, its own user and the job's owner can read it. Environment and files
are one block of base64, which no shell looks into; all that a shell reads is quoted.
"""

from __future__ import annotations

import math
import os
import shlex

from penstock.backends.payload import CONTROL, bootstrap, pack
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
            if not CONTROL.search(value)
        ),
        python=shlex.quote(batch.command[0]),
        bootstrap=shlex.quote(bootstrap()),
        payload=pack(batch, DEVICES if batch.resources.gpus else ()),
    )
    data = os.fsencode(script)
    if len(data) > MAX_SCRIPT:
        raise Rejected(
            f"environment and files of the job are {len(data)} bytes as a job script, and Slurm "
            f"takes at most {MAX_SCRIPT}; put large data into a file"
        )
    return data
