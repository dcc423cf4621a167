"""What server and notebook say to each other about a cluster's jobs, and its parsing. Pure.

One WebSocket a notebook and cluster, JSON text frames. The notebook's end is untrusted: it speaks
for the jobs of its own cluster alone, so no message of it holds a cluster, a gateway or an owner;
the server puts those in. Each batch is named by its sequence number.

Notebook → server
  {"op": "hello", "protocol": 1, "place": "…", "who": "…"}
      "place" names what it looks at (which schedd, as whom): two notebooks with the same place see
      the same jobs. "who" is for people: "jupyter of alice on node7 (process 4711)".
  {"op": "done", "id": 7, …}                      the answer to the request with this id
      observe: "complete": bool, "now": its clock, "jobs": [[sequence, index, native, phase, exit,
               exit_code, reason, node, since, submitted, expected, ends], …]
      logs:    "text": "…"
  {"op": "failed", "id": 7, "kind": "rejected" | "unavailable" | "full" | "uncertain", "text": "…"}
  {"op": "changed"}                               something may be new: look soon
  {"op": "stop"}                                  it is ending, and so shall the cluster, unless
      another notebook is there for it; "stopping" is the answer
  {"op": "leave", "keep": bool, "cleared": bool}  it goes on purpose. "keep": its jobs shall go on.
      "cleared": none of its jobs is left.

Server → notebook
  {"op": "welcome", "gateway": "…", "cluster": "…", "ticket": "…"}    the ticket for the next time
  {"op": "submit", "id": 7, "sequence": 3, "role": "worker", "count": 40, "command": […],
   "env": {…}, "files": {name: base64}, "resources": {…}, "extras": {…}}
  {"op": "observe", "id": 8}
  {"op": "cancel", "id": 9, "jobs": [[sequence, index, native], …]}
  {"op": "logs", "id": 10, "job": [sequence, index, native], "tail": bytes}
  {"op": "forget", "id": 11}                      delete the output of its jobs
  {"op": "stopping", "alone": bool}               whether the cluster ends, and so shall its jobs
  {"op": "standby", "by": "…"}                    another notebook submits from now on
  {"op": "active", "from": "…"}                   this one does, and not "from" any more
  {"op": "over", "reason": "…"}                   the cluster has ended: end what is left, and go
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.model.errors import (
    Absent,
    BackendError,
    Full,
    Invalid,
    Rejected,
    Unavailable,
    Uncertain,
)
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Exit, Job, Phase, Resources, Role

PROTOCOL = 1
MAX_FRAME = 8 * 2**20
MAX_JOBS = 20_000
MAX_TEXT = 2000
MAX_LOG = 2**20

_KINDS: Mapping[str, type[BackendError]] = {
    "rejected": Rejected,
    "unavailable": Unavailable,
    "full": Full,
    "absent": Absent,
    "uncertain": Uncertain,
}
_PHASES = {phase.value: phase for phase in Phase}
_EXITS = {exit.value: exit for exit in Exit}


@dataclass(frozen=True, slots=True)
class Hello:
    """Who is there, and what it looks at."""

    place: str
    who: str


@dataclass(frozen=True, slots=True)
class Looked:
    """One look of a notebook at its batch system."""

    complete: bool
    jobs: tuple[Job, ...]


# -- what the server reads: everything here may be hostile --


def parse_hello(message: Mapping[str, object]) -> Hello:
    """The first frame. Raises Invalid."""
    if message.get("op") != "hello":
        raise Invalid("The notebook must begin with a hello")
    if message.get("protocol") != PROTOCOL:
        raise Invalid(
            f"The notebook speaks protocol {message.get('protocol')!r:.20} and this gateway "
            f"{PROTOCOL}: install the penstock of the gateway's version in the notebook"
        )
    place, who = _text(message.get("place"), 300), _text(message.get("who"), 300)
    if not place or not who:
        raise Invalid("The notebook's hello must say place and who")
    return Hello(place, who)


def parse_failure(message: Mapping[str, object]) -> BackendError:
    """The error that a notebook met; one of an unknown kind is uncertain."""
    kind = message.get("kind")
    made = _KINDS.get(kind, Uncertain) if isinstance(kind, str) else Uncertain
    return made(_text(message.get("text"), MAX_TEXT) or "the notebook does not say why")


def parse_look(
    message: Mapping[str, object], gateway: str, cluster: str, owner: str, now: float
) -> Looked:
    """What a notebook saw of a cluster. ``now``: our clock, for one that is set differently.

    Raises Invalid: half of a listing that makes no sense is no listing.
    """
    rows = message.get("jobs")
    if not isinstance(rows, list) or len(rows) > MAX_JOBS:
        raise Invalid(f"The notebook's jobs must be a list of at most {MAX_JOBS}")
    theirs = _number(message.get("now"))
    shift = 0.0 if theirs is None or abs(now - theirs) < 2.0 else now - theirs
    batches: dict[int, BatchId] = {}
    jobs = tuple(_job(row, gateway, cluster, owner, shift, batches) for row in rows)
    return Looked(message.get("complete") is True, jobs)


def parse_text(message: Mapping[str, object]) -> str:
    """A job's output."""
    text = message.get("text")
    return text[-MAX_LOG:] if isinstance(text, str) else ""


def _job(
    row: object,
    gateway: str,
    cluster: str,
    owner: str,
    shift: float,
    batches: dict[int, BatchId],
) -> Job:
    if not isinstance(row, list) or len(row) != 12:
        raise Invalid("A job of the notebook must have twelve values")
    sequence, index = _count(row[0]), _count(row[1])
    phase = _PHASES.get(row[3]) if isinstance(row[3], str) else None
    if sequence is None or index is None or phase is None:
        raise Invalid("A job of the notebook must have a sequence, an index and a phase")
    batch = batches.setdefault(sequence, BatchId(gateway, cluster, sequence))
    over = phase is Phase.EXITED
    times = [None if at is None else at + shift for at in map(_number, row[8:12])]
    return Job(
        batch=batch,
        index=index,
        native=_text(row[2], 200),
        owner=owner,
        phase=phase,
        exit=_EXITS.get(row[4], Exit.LOST) if over and isinstance(row[4], str) else None,
        exit_code=_count(row[5]) if over else None,
        reason=_text(row[6], MAX_TEXT),
        node=_text(row[7], 200),
        since=times[0],
        submitted=times[1],
        expected=times[2],
        ends=times[3],
    )


def _text(value: object, most: int) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in value[:most]).strip()


def _count(value: object) -> int | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10_000_000
    return value if good and isinstance(value, int) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


# -- what the server says --


def encode_batch(batch: Batch) -> dict[str, object]:
    """A submission, without gateway, cluster and owner, which the notebook knows."""
    return {
        "op": "submit",
        "sequence": batch.id.sequence,
        "role": batch.role.value,
        "count": batch.count,
        "command": list(batch.command),
        "env": dict(batch.env),
        "files": {name: base64.b64encode(data).decode() for name, data in batch.files.items()},
        "resources": {
            "cores": batch.resources.cores,
            "memory": batch.resources.memory,
            "gpus": batch.resources.gpus,
        },
        "extras": dict(batch.extras),
    }


# -- the notebook's end; it trusts its server as far as it lets it submit jobs as its user --


def decode_batch(message: Mapping[str, object], gateway: str, cluster: str, owner: str) -> Batch:
    """The batch that a server wants to be submitted. Raises Rejected for what is no batch."""
    try:
        return _batch(message, gateway, cluster, owner)
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise Rejected(f"the gateway sent something that is no batch: {error!r}") from None


def _batch(message: Mapping[str, object], gateway: str, cluster: str, owner: str) -> Batch:
    command, env, files = message["command"], message["env"], message["files"]
    resources, extras = message["resources"], message["extras"]
    sequence, count = _count(message["sequence"]), _count(message["count"])
    if sequence is None or count is None or not isinstance(command, list):
        raise ValueError("sequence, count or command")
    if not all(isinstance(each, dict) for each in (env, files, resources, extras)):
        raise ValueError("env, files, resources or extras")
    assert isinstance(env, dict)
    assert isinstance(files, dict)
    assert isinstance(resources, dict)
    assert isinstance(extras, dict)
    return Batch(
        id=BatchId(gateway, cluster, sequence),
        owner=owner,
        role=Role(message["role"]),
        count=count,
        command=tuple(map(str, command)),
        env={str(key): str(value) for key, value in env.items()},
        files={str(name): base64.b64decode(data) for name, data in files.items()},
        resources=Resources(
            float(resources["cores"]), int(resources["memory"]), int(resources["gpus"])
        ),
        extras=extras,
    )


def encode_jobs(jobs: Sequence[Job]) -> list[list[object]]:
    """Rows of a look."""
    return [
        [
            job.batch.sequence,
            job.index,
            job.native,
            job.phase.value,
            job.exit.value if job.exit else None,
            job.exit_code,
            job.reason[:MAX_TEXT],
            job.node,
            job.since,
            job.submitted,
            job.expected,
            job.ends,
        ]
        for job in jobs
    ]


def encode_failure(error: BackendError) -> dict[str, object]:
    """An error as it goes over the wire."""
    kind = next((k for k, made in _KINDS.items() if isinstance(error, made)), "uncertain")
    return {"op": "failed", "kind": kind, "text": str(error)[:MAX_TEXT]}


def handle_of(job: Job) -> list[object]:
    """How a job is named in a cancel."""
    return [job.batch.sequence, job.index, job.native]
