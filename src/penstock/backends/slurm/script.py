"""From a batch to what ``sbatch`` is given: its arguments, and the job script. Pure.

Everything travels in the script, so that nothing needs a file system that server and nodes share:
Slurm keeps it where only root, its own user and the job's owner can read it. Environment and files
are one block of base64, which no shell looks into; all that a shell reads is quoted.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Sequence

from penstock.backends.payload import CONTROL, bootstrap, pack
from penstock.backends.slurm.sharing import FIRST_SIGNAL, Sharing, comment
from penstock.model.errors import Rejected
from penstock.model.job import Batch, Role
from penstock.settings.backends import SlurmJobSettings

MAX_SCRIPT = 4 * 2**20
"""Bytes of a script that Slurm takes (``max_script_size`` of SchedulerParameters, slurm.conf(5))."""

NO_DIRECTORY = 125
"""Exit code of a job that could not make its private directory."""

DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")
"""What Slurm sets in a job with GPUs (gres/gpu, ``--gpus`` in sbatch(1))."""

NO_PROLOG = 124
"""Exit code of a job whose prolog failed."""

_PAYLOAD = "PENSTOCK"
_PLAIN = SlurmJobSettings()

_SCRIPT = """\
#!{shell}
# Penstock: {role} of cluster {cluster}.
# The block below holds the environment and the files of the job; its Python unpacks them.
trap : HUP INT TERM USR1 USR2
tag={tag}
task=$SLURM_ARRAY_TASK_ID
logs={logs}
scratch={scratch}
directory=$(mktemp -d "$scratch/penstock-$tag-$task.XXXXXX") || exit {no_directory}
# scancel signals rm too, which would leave the directory behind if it listened.
trap 'trap "" HUP INT TERM USR1 USR2; rm -rf -- "$directory"' EXIT
# A job that is killed hard leaves its directory; the next one here of the same user and gateway
# takes it away, once no process of that job holds the lock.
if exec 9>"$directory/lock" && flock -n 9 2>/dev/null; then
  echo "$SLURMD_NODENAME" >&9
  for old in "$scratch/{ours}"*; do
    [ -O "$old/lock" ] && read -r node <"$old/lock" && [ "$node" = "$SLURMD_NODENAME" ] &&
      flock -n "$old/lock" rm -rf -- "$old"
  done 2>/dev/null
fi
cat >"$directory/payload" <<'{end}' || exit {no_directory}
{payload}{end}
{prolog}run() { # the index of a worker, and its private directory
log=$2.output
if [ -n "$logs" ]; then (
  umask 077
  [ -d "$logs" ] || mkdir -- "$logs"
  [ -d "$logs/$tag" ] || mkdir -- "$logs/$tag"
  true >>"$logs/$tag/$1.log"
) 2>/dev/null && log=$logs/$tag/$1.log; fi
exec >>"$log" 2>&1 <"$directory/payload"
python={python}
{lookup}exec "$python" -I -S -c {bootstrap} "$2" "$tag" "$1"
}
{start}"""

_ALONE = """\
(run "$task" "$directory/job")
exit
"""

_SHARED = """\
pids=
# The worker in this place, unless it is over. Starts no process: bash holds signals back meanwhile.
end() {
  place=$1
  set -- $pids
  [ "$#" -gt "$place" ] || return 0
  shift "$place"
  [ -r "/proc/$1/status" ] || return 0
  while read -r key value; do
    [ "$key $value" = "PPid: $$" ] && kill -TERM "$1"
  done <"/proc/$1/status"
}
{traps}workers=$(({count} - task * {each}))
[ "$workers" -le {each} ] || workers={each}
at=0
while [ "$at" -lt "$workers" ]; do
  index=$((task * {each} + at))
  (export PENSTOCK_PLACE="$at" PENSTOCK_WORKERS={each}; run "$index" "$directory/$index") &
  pids="$pids $!"
  at=$((at + 1))
done
code=0
for pid in $pids; do
  wait "$pid"
  status=$?
  while [ "$status" -gt 128 ] && kill -0 "$pid" 2>/dev/null; do # a signal came in between
    wait "$pid"
    status=$?
  done
  if [ "$status" -gt 128 ]; then # perhaps of a signal just before it ended; 127: it was told
    wait "$pid" 2>/dev/null
    again=$?
    [ "$again" = 127 ] || status=$again
  fi
  [ "$status" = 0 ] || code=$status
done
exit "$code"
"""

_PROLOG = """\
# The site's prolog: what it changes in the environment, the job's Python takes over.
export HOME="${HOME:-$(echo ~)}" USER="${USER:-$(id -un)}"
[ -r /etc/profile ] && . /etc/profile >/dev/null 2>&1
env -0 >"$directory/before"
export PENSTOCK_PROLOG="$directory" PENSTOCK_FAILED=
within=yes
trap 'trap "" HUP INT TERM USR1 USR2
  rm -rf -- "$directory"
  [ -z "$PENSTOCK_FAILED$within" ] || exit {no_prolog}' EXIT
{lines}within=
env -0 >"$directory/after"
"""

_LINE = """\
[ -n "$PENSTOCK_FAILED" ] || eval {line} >>"$directory/prolog" 2>&1 ||
  PENSTOCK_FAILED="the profile's prolog failed at "{shown}": $(tail -c 1000 "$directory/prolog")"
"""

_AFTER_PROLOG = """\
cat "$directory/prolog"
[ -z "$PENSTOCK_FAILED" ] || command -v "$python" >/dev/null || python=python3
"""


def job_name(batch: Batch) -> str:
    """What ``squeue`` shows: role and cluster."""
    return f"dask-{batch.role.value}-{batch.id.cluster}"


def minutes(seconds: float) -> int:
    """A time limit as Slurm counts it; 0 would mean none at all."""
    return max(1, math.ceil(seconds / 60))


def sharing(batch: Batch, jobs: SlurmJobSettings) -> Sharing:
    """How many workers of a batch share a job; schedulers never do."""
    each = min(jobs.workers_per_job, batch.count) if batch.role is Role.WORKER else 1
    return Sharing(each, batch.count)


def arguments(batch: Batch, jobs: SlurmJobSettings) -> list[str]:
    """The arguments of ``sbatch``; everybody on the gateway's machine can read them."""
    shared = sharing(batch, jobs)
    resources, each = batch.resources, shared.each
    words = [
        "--parsable",
        f"--array=0-{shared.tasks - 1}",
        f"--job-name={job_name(batch)}",
        f"--comment={comment(batch.id, shared)}",
        "--no-requeue",  # the core replaces what is lost; a second run of an index is a stranger
        "--chdir=/",
        "--input=/dev/null",
        "--output=/dev/null",  # the script keeps its own; Slurm fails a job whose file it cannot open
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={max(1, math.ceil(resources.cores * each))}",
        f"--mem={max(1, math.ceil(resources.memory * each / 2**20))}M",
    ]
    gres = [f"gpu:{resources.gpus * each}"] if resources.gpus else []
    gres += [jobs.gres] if jobs.gres else []
    if gres:
        words.append(f"--gres={','.join(gres)}")
    if jobs.time is not None:
        words.append(f"--time={minutes(jobs.time)}")
    for name in (
        *("partition", "account", "qos", "reservation", "constraint"),
        *("nodelist", "exclude", "licenses"),
    ):
        value = getattr(jobs, name)
        if value is not None:
            words.append(f"--{name}={value}")
    return [*words, *jobs.arguments]


def job_script(
    batch: Batch, logs: str, scratch: str | None, jobs: SlurmJobSettings = _PLAIN
) -> bytes:
    """The script of all jobs of a batch.

    ``logs``: the directory for their output on the nodes, empty when it lives and goes with the
    job. ``scratch``: where private directories are made, None for the node's ``$TMPDIR`` or /tmp.
    Raises Rejected when Slurm would not take it.
    """
    script = _fill(
        _SCRIPT,
        shell="/bin/bash" if jobs.prolog else "/bin/sh",
        role=batch.role.value,
        cluster=batch.id.cluster,
        tag=shlex.quote(batch.id.tag),
        logs=shlex.quote(logs),
        scratch='"${TMPDIR:-/tmp}"' if scratch is None else shlex.quote(scratch),
        no_directory=NO_DIRECTORY,
        ours=f"penstock-p-{batch.id.gateway}-",
        end=_PAYLOAD,
        payload=pack(batch, DEVICES if batch.resources.gpus else ()),
        prolog=_prolog(jobs.prolog),
        python=shlex.quote(batch.command[0]),
        lookup=_lookup(batch, bool(jobs.prolog)),
        bootstrap=shlex.quote(bootstrap()),
        start=_start(sharing(batch, jobs)),
    )
    data = os.fsencode(script)
    if len(data) > MAX_SCRIPT:
        raise Rejected(
            f"environment and files of the job are {len(data)} bytes as a job script, and Slurm "
            f"takes at most {MAX_SCRIPT}; put large data into a file"
        )
    return data


def _fill(template: str, **values: object) -> str:
    """The template with ``{name}`` replaced, once; shell's own braces stay."""
    return re.sub(r"\{([a-z_]+)\}", lambda match: str(values.get(match[1], match[0])), template)


def _prolog(lines: Sequence[str]) -> str:
    """The part of the script that runs a site's lines; in bash alone no mistake in one ends it."""
    if not lines:
        return ""
    words = [_fill(_LINE, line=shlex.quote(line), shown=shlex.quote(line)) for line in lines]
    return _fill(_PROLOG, lines="".join(words), no_prolog=NO_PROLOG)


def _lookup(batch: Batch, after_prolog: bool) -> str:
    """Variables that the job's Python may need to be found and to start at all.

    What a prolog has put there comes first, since it may bring the Python.
    """
    words = []
    for name in ("PATH", "LD_LIBRARY_PATH"):
        value = batch.env.get(name)
        if value is not None and not CONTROL.search(value):
            before = f'"${{{name}:+${name}:}}"' if after_prolog else ""
            words.append(f"export {name}={before}{shlex.quote(value)}\n")
    return (_AFTER_PROLOG if after_prolog else "") + "".join(words)


def _start(shared: Sharing) -> str:
    if shared.each == 1:
        return _ALONE
    traps = [f"trap 'end {place}' {FIRST_SIGNAL + place}\n" for place in range(shared.each)]
    return _fill(_SHARED, each=shared.each, count=shared.count, traps="".join(traps))
