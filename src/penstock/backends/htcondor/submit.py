"""From a batch to what ``condor_submit`` is given: the description, and the jobs' script. Pure.

Everybody may read a job ad, so it holds nothing of the batch's environment and files: those travel
inside the script, which HTCondor transfers as the executable. What stands in the description is
quoted for its language, which has macros (``$(x)``), comments and continued lines.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping

from penstock.backends.payload import CONTROL, bootstrap, pack
from penstock.model.errors import Rejected
from penstock.model.job import Batch
from penstock.settings.htcondor import HTCondorJobSettings

NOT_ALLOWED = 126
"""Exit code of a job whose command is there and cannot be run, as every shell has it."""

KEEP = ("X509_USER_PROXY", "_CONDOR_CREDS")
"""Where HTCondor put the credentials that it brought; only it knows."""

DEVICES = (
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
    *("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
)
"""What HTCondor sets in a job with GPUs (``GPU_DEVICE_ORDINAL`` also for others, without meaning)."""

MAX_SCRIPT = 16 * 2**20
"""Bytes of a script: with spooling, the schedd keeps one for each job."""

USER_HOLDS = (1, 15)
"""HoldReasonCode of a job that a person holds, or that was submitted so; it is theirs to release."""

SPOOLING = 16
"""HoldReasonCode while the schedd receives a job's files."""

SPOOLING_LIMIT = 900
"""Seconds after which files that were to be spooled will not come: condor_submit was killed."""

_SCRIPT = """\
#!/bin/sh
# Penstock: {role} of cluster {cluster}.
# The block below holds the environment and the files of the job; its Python unpacks them.
exec 2>&1
chmod go= "$0" 2>/dev/null
{exports}exec {python} -I -S -c {bootstrap} "$PWD/penstock" {tag} "$1" <<'PENSTOCK'
{payload}PENSTOCK
"""

_BEGUN = "((NumShadowStarts ?: 0) > 0)"
"""A run was begun. The schedd counts that itself; that the job really ran (NumJobStarts,
JobCurrentStartExecutingDate) it is told late, and never when the shadow dies too soon."""

_DEAD = (
    f"(JobStatus == 1 && {_BEGUN}) || (JobStatus == 5 && ({_BEGUN} || "
    f"(HoldReasonCode != {USER_HOLDS[0]} && HoldReasonCode != {USER_HOLDS[1]} && "
    f"(HoldReasonCode != {SPOOLING} || time() - QDate > {SPOOLING_LIMIT}))))"
)
"""Jobs that must not run (again): the core replaces what is lost, and a second run of an index is a
stranger to it. A person's hold of a job that has not begun is kept."""

_FIRST_RUN = "((NumShadowStarts ?: 0) == 0)"
"""PeriodicRemove is looked at now and then; until it is, the job must match no machine."""


def job_name(batch: Batch) -> str:
    """What ``condor_q`` shows: role and cluster."""
    return f"dask-{batch.role.value}-{batch.id.cluster}"


def program(batch: Batch) -> str:
    """The name of the jobs' script, which ``condor_q -nobatch`` shows."""
    return f"dask-{batch.role.value}"


def plain(text: str) -> str:
    """Text that no macro is expanded in."""
    return text.replace("$", "$(DOLLAR)")


def literal(value: object) -> str:
    """A value as a ClassAd literal in a submit description."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value) if math.isfinite(value) else "undefined"
    # In the syntax of submit descriptions a backslash means something before a quote alone, and not
    # even there at the end.
    text = str(value).replace('"', '\\"')
    return plain(f'"{text}"')


def description(
    batch: Batch,
    jobs: HTCondorJobSettings,
    place: str,
    *,
    owner: str | None = None,
    remember: float = 600.0,
    grace: float = 30.0,
    lease: float = 2400.0,
) -> str:
    """The submit description of a batch.

    ``place``: the directory with the jobs' script, in which their output will lie. ``owner``: whose
    the jobs shall be, None for whoever submits. ``remember``, ``grace`` and ``lease``: seconds, see
    the settings. No value of the batch or the settings can become another line or a macro.
    """
    lines = {
        **_files(batch, place),
        "universe": jobs.universe,
        "getenv": "false",
        "notification": "never",
        "batch_name": job_name(batch),
        "description": f"Dask {batch.role.value} of Penstock",
        "leave_in_queue": "(JobStatus == 3 || JobStatus == 4) && "
        f"(time() - EnteredCurrentStatus < {math.ceil(remember)})",
        "job_max_vacate_time": str(math.ceil(grace)),
        "job_lease_duration": str(math.ceil(lease)),
        **_resources(batch),
        **_site(jobs),
        "+PenstockTag": literal(batch.id.tag),
    }
    if owner is not None:
        lines["+Owner"] = literal(owner)
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    return f"{text}queue {batch.count}\n"


def _files(batch: Batch, place: str) -> Mapping[str, str]:
    """The script is the executable; what comes back is its output."""
    return {
        "executable": plain(f"{place}/{program(batch)}"),
        "transfer_executable": "true",
        "arguments": "$(ProcId)",
        "initialdir": plain(place),
        "output": "$(ProcId).log",
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_output_files": '""',
    }


def _resources(batch: Batch) -> Mapping[str, str]:
    asked = batch.resources
    lines = {
        "request_cpus": str(max(1, math.ceil(asked.cores))),
        "request_memory": str(max(1, math.ceil(asked.memory / 2**20))),
    }
    if asked.gpus:
        lines["request_gpus"] = str(asked.gpus)
    return lines


def _site(jobs: HTCondorJobSettings) -> Mapping[str, str]:
    requirements = [_FIRST_RUN, *([f"({plain(jobs.requirements)})"] if jobs.requirements else [])]
    remove = [_DEAD]
    if jobs.time is not None:
        # Not allowed_execute_duration: it now and then forgets jobs that began within a second.
        remove.append(f"(JobStatus == 2 && time() - JobCurrentStartDate >= {math.ceil(jobs.time)})")
    if jobs.periodic_remove:
        remove.append(f"({plain(jobs.periodic_remove)})")
    lines = {
        "requirements": " && ".join(requirements),
        "periodic_remove": " || ".join(remove),
    }
    if jobs.request_disk is not None:
        lines["request_disk"] = str(math.ceil(jobs.request_disk / 2**10))
    limits = [math.ceil(each) for each in (jobs.time, jobs.pool_time) if each is not None]
    if limits:
        lines["+PenstockTime"] = str(min(limits))
    for name in (
        *("container_image", "rank", "accounting_group", "accounting_group_user"),
        "concurrency_limits",
    ):
        value = getattr(jobs, name)
        if value is not None:
            lines[name] = plain(value)
    if _unpacked(jobs.container_image):
        lines["transfer_container"] = "false"
    if jobs.transfer_input_files:
        lines["transfer_input_files"] = plain(",".join(jobs.transfer_input_files))
    lines.update({f"+{name}": literal(value) for name, value in jobs.attributes.items()})
    lines.update({name: plain(value) for name, value in jobs.submit.items()})
    return lines


def _unpacked(image: str | None) -> bool:
    """Whether HTCondor takes an image for a directory, which it would copy to each job, but cannot:
    "transfer of symlinks to directories is not supported", and such images are full of them."""
    return image is not None and image.startswith("/") and not image.endswith(".sif")


def job_script(batch: Batch) -> bytes:
    """The script of all jobs of a batch, which gets the index as its argument.

    Raises Rejected when it is too large.
    """
    keep = KEEP + (DEVICES if batch.resources.gpus else ())
    lookup = {name: batch.env[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in batch.env}
    script = _SCRIPT.format(
        role=batch.role.value,
        cluster=batch.id.cluster,
        # The job's Python may need them to be found and to start at all.
        exports="".join(
            f"export {name}={shlex.quote(value)}\n"
            for name, value in lookup.items()
            if not CONTROL.search(value)
        ),
        python=shlex.quote(batch.command[0]),
        bootstrap=shlex.quote(bootstrap()),
        tag=shlex.quote(batch.id.tag),
        payload=pack(batch, keep),
    )
    data = os.fsencode(script)
    if len(data) > MAX_SCRIPT:
        raise Rejected(
            f"environment and files of the job are {len(data)} bytes as a job script, and at most "
            f"{MAX_SCRIPT} are sent with each job; put large data into a file"
        )
    return data
