"""What a Slurm's configuration means for a gateway. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from penstock.backends.insight import Finding, Verdict
from penstock.settings.units import show_duration

OLDEST = (20, 11)
TRIED = ((22, 5), (24, 11), (26, 5))

CLOCK_WARNING = 2.0
CLOCK_BAD = 60.0
"""Seconds; munge refuses credentials that are older than five minutes (munged(8), ``--ttl``)."""

_VERSION = re.compile(r"(\d+)\.(\d+)")
_AS_OF = re.compile(r"^Configuration data as of (\d+)\s*$", re.MULTILINE)
_LINE = re.compile(r"^(\S+)\s+= ?(.*?)\s*$", re.MULTILINE)

_NOT_THEIRS = re.compile(r"Invalid account|Invalid qos|not permitted|denied", re.IGNORECASE)
"""What is said of accounts, QOS, partitions and reservations that are others'."""

_ASK_AS = "name a user who may: --user NAME here, and `predict_user` for the predicted waits"

_ADVICE = (
    (r"there is no ", "install Slurm's commands, or set `bin` of the backend"),
    (r"[Mm]unge|authentication", "is munged running, with the key of the cluster?"),
    (
        r"[Cc]onfiguration source|slurm\.conf",
        "is slurm.conf here and readable? set `config` if not",
    ),
    (r"in time|timed out", "slurmctld hangs or is overloaded, or `timeout` is too short"),
    (r"Unable to contact", "is slurmctld running, and its port reachable from here?"),
)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition. ``limit``: the longest time of a job in seconds, None for any."""

    name: str
    state: str
    limit: float | None
    default: bool


def unreachable(words: str, timeout: float) -> Finding:
    """Nothing else can be looked at then."""
    advice = next((text for pattern, text in _ADVICE if re.search(pattern, words)), "")
    return Finding(Verdict.BAD, "slurmctld", words, advice or f"`timeout` is {timeout:g} s")


def parse_config(text: str) -> dict[str, str]:
    """``scontrol show config``; the moment that it is of, in seconds, under the key ""."""
    found = {match[1]: match[2] for match in _LINE.finditer(text)}
    moment = _AS_OF.search(text)
    if moment is not None:
        found[""] = moment[1]
    return found


def parse_partitions(text: str) -> dict[str, Partition]:
    """``scontrol show partition --oneliner``."""
    found = {}
    for line in text.splitlines():
        words = dict(word.partition("=")[::2] for word in line.split())
        name = words.get("PartitionName")
        if name:
            limit = duration(words.get("MaxTime", ""))
            state, default = words.get("State", ""), words.get("Default") == "YES"
            found[name] = Partition(name, state, limit, default)
    return found


def duration(text: str) -> float | None:
    """Seconds of ``1-12:00:00`` or ``00:10:00``; None for UNLIMITED and what is no time."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def judge_config(
    config: Mapping[str, str],
    *,
    client: str,
    now: float,
    timeout: float,
    period: float,
    user: str,
) -> Iterator[Finding]:
    """What suits a gateway and what does not. ``client``: version of the commands here; ``user``:
    the account of the gateway; ``now``: this machine's clock when the answer came."""
    yield _version(config.get("SLURM_VERSION", ""), client)
    if "" in config:
        yield _clock(now - float(config[""]))
    yield _arrays(config.get("MaxArraySize", ""))
    yield _timeout(_seconds(config, "MessageTimeout"), timeout)
    yield from _memory(_seconds(config, "MinJobAge"), period)
    yield from _plugins(config.get("JobSubmitPlugins", ""))
    yield from _privacy(config, user)


def _seconds(config: Mapping[str, str], key: str) -> float | None:
    match = re.match(r"(\d+)", config.get(key, ""))
    return float(match[1]) if match else None


def _number(text: str) -> tuple[int, int] | None:
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2])) if match else None


def _version(server: str, client: str) -> Finding:
    here, there = _number(client), _number(server)
    if there is None:
        return Finding(Verdict.WARNING, "version", f"unknown: {server or 'not shown'}")
    if here is not None and here > there:
        found = f"the commands here are {client}, newer than slurmctld's {server}"
        return Finding(Verdict.BAD, "version", found, "install the cluster's own version here")
    if there < OLDEST:
        oldest = "{}.{:02}".format(*OLDEST)
        return Finding(Verdict.WARNING, "version", f"{server}, older than {oldest}: never tried")
    tried = ", ".join("{}.{:02}".format(*each) for each in TRIED)
    note = "" if there in TRIED else f" (tried with {tried})"
    return Finding(Verdict.GOOD, "version", f"Slurm {server}{note}")


def _clock(ahead: float) -> Finding:
    if abs(ahead) < CLOCK_WARNING:
        return Finding(Verdict.GOOD, "clock", "as slurmctld's")
    which = "ahead of" if ahead > 0 else "behind"
    found = f"{abs(ahead):.0f} s {which} slurmctld's"
    verdict = Verdict.BAD if abs(ahead) > CLOCK_BAD else Verdict.WARNING
    return Finding(verdict, "clock", found, "let NTP or chrony set the clock here and there")


def _arrays(text: str) -> Finding:
    size = int(text) if text.isdecimal() else 0
    if size < 2:
        found = "job arrays are switched off" if text else "MaxArraySize is not shown"
        return Finding(Verdict.BAD, "MaxArraySize", found, "set MaxArraySize in slurm.conf")
    return Finding(Verdict.GOOD, "MaxArraySize", f"{size}: so many workers in one submission")


def _timeout(message: float | None, timeout: float) -> Finding:
    if message is not None and timeout <= message:
        found = f"`timeout` is {timeout:g} s, and Slurm itself waits for {message:g} s"
        advice = f"set `timeout` to {2 * message + 5:g} s or more, to hear what Slurm says"
        return Finding(Verdict.BAD, "MessageTimeout", found, advice)
    shown = "not shown" if message is None else f"{message:g} s"
    return Finding(Verdict.GOOD, "MessageTimeout", f"{shown}; `timeout` is {timeout:g} s")


def _memory(age: float | None, period: float) -> Iterator[Finding]:
    """0 is "until slurmctld restarts", slurm.conf(5)."""
    if age and age < 2 * period:
        found = f"ended jobs are forgotten after {age:g} s, and looked for every {period:g} s"
        advice = "raise MinJobAge, or how jobs ended stays unknown"
        yield Finding(Verdict.WARNING, "MinJobAge", found, advice)


def _plugins(text: str) -> Iterator[Finding]:
    if text not in ("", "(null)"):
        advice = "see that it leaves --comment alone; `penstock doctor --probe` tries it"
        yield Finding(Verdict.WARNING, "JobSubmitPlugins", f"{text} may change jobs", advice)


def _privacy(config: Mapping[str, str], user: str) -> Iterator[Finding]:
    hidden = config.get("PrivateData", "").split(",")
    slurm = config.get("SlurmUser", "").partition("(")[0]
    if "jobs" in hidden and user not in ("root", slurm):
        found = f"PrivateData=jobs hides users' jobs from {user}"
        advice = "make it an operator (sacctmgr modify user … set adminlevel=operator)"
        yield Finding(Verdict.BAD, "PrivateData", found, advice)


def judge_time(name: str, wanted: float | None, partition: Partition | None) -> Finding | None:
    """A job that is too long is accepted and waits for ever, unless EnforcePartLimits says else."""
    if partition is None:
        return None
    if partition.state not in ("UP", ""):
        found = f"partition {partition.name} is {partition.state}"
        return Finding(Verdict.WARNING, name, found, "jobs wait until it is up")
    if wanted is None or partition.limit is None or wanted <= partition.limit:
        return None
    found = (
        f"asks for {show_duration(wanted)}, and partition {partition.name} allows "
        f"{show_duration(partition.limit)}: such jobs wait for ever"
    )
    return Finding(Verdict.BAD, name, found, "lower `time`, or use another partition")


def judge_refusal(name: str, words: str, owner: str | None) -> Finding:
    """A job that Slurm would not take. ``owner``: as whom it was asked, None for the server's own
    account, which need not have what its users have."""
    if owner is None and _NOT_THEIRS.search(words):
        found = f"asked as the gateway's own account: {words}"
        return Finding(Verdict.WARNING, name, found, _ASK_AS)
    advice = "correct the profile's extras, or [backends.<name>.jobs]"
    return Finding(Verdict.BAD, name, words, advice)


def wait_words(seconds: float) -> str:
    """How long a job would wait, for people."""
    if seconds < 1:
        return "at once"
    if seconds < 120:
        return f"in {seconds:.0f} s"
    return f"in {seconds / 60:.0f} min" if seconds < 7200 else f"in {seconds / 3600:.0f} h"
