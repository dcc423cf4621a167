"""What an HTCondor's versions and configuration mean for a gateway, and whom it takes us for. Pure.

Words and values were observed with HTCondor 23.9 and 25.14.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from penstock.backends.htcondor import replies
from penstock.backends.insight import Finding, Verdict

GOOD, WARNING, BAD = Verdict.GOOD, Verdict.WARNING, Verdict.BAD

TRIED = ((23, 9), (25, 14))
OLDEST = (23, 0)
BINDING = 25
"""Since this version FS authentication checks addresses in a way that older daemons fail."""

OWN_TIMEOUT = 20.0
"""Seconds after which HTCondor's commands say that a daemon does not answer."""

CLOCK_WARNING, CLOCK_BAD = 5.0, 60.0
"""Seconds; tokens have a time before which they are not good."""

OWN_TRANSFORMS = frozenset({"PelicanRetry"})
"""What HTCondor 25.14 brings itself."""

FEW = 200
"""Jobs of one user, ended ones included, that are soon used up."""

KEYS = (
    *("MAX_JOBS_PER_OWNER", "MAX_JOBS_SUBMITTED", "MAX_JOBS_PER_SUBMISSION", "MAX_JOBS_RUNNING"),
    *("QUEUE_SUPER_USERS", "QUEUE_SUPER_USER_MAY_IMPERSONATE"),
    *("JOB_TRANSFORM_NAMES", "SUBMIT_REQUIREMENT_NAMES"),
    *("SYSTEM_PERIODIC_REMOVE", "SYSTEM_PERIODIC_HOLD"),
)
"""Of the schedd's configuration, as it says itself (``condor_config_val -schedd``)."""

UNFENCED = Finding(
    WARNING,
    "output",
    "this machine's kernel has no Landlock, so the output of jobs that ended is not fetched",
    "use Linux 5.13 or newer with `landlock` among /sys/kernel/security/lsm",
)
"""A user's job could else have files written with the gateway's rights, see ``fence``."""

_ADVICE = (
    (r"there is no condor_", "install HTCondor's commands, or set `bin` of the backend"),
    (r"CONDOR_CONFIG", "is HTCondor's configuration here and readable? set `config` if not"),
    (
        r"FS:1004:Directory name doesn't match",
        "set SEC_FS_ENFORCE_CHANNEL_BINDING = False here, or install the schedd's own version",
    ),
    (r"in time|SECMAN:2007", "the daemon hangs or is overloaded, or `timeout` is too short"),
    (
        r"unknown host",
        "correct `schedd`: see `condor_status -schedd`; and `pool`, if it is elsewhere",
    ),
    (r"find address|locate", "is condor_schedd running on this machine? set `schedd` if it is not"),
    (r"CEDAR:6001|Failed to connect", "does the daemon run, and is its port reachable from here?"),
    (r"AUTHENTICATE|SECMAN:2002|DENIED|not authorized", "see SEC_* and ALLOW_* of the schedd"),
)


def advice(words: str) -> str:
    """What to do when HTCondor says that; may be nothing."""
    return next((text for pattern, text in _ADVICE if re.search(pattern, words)), "")


def unreachable(what: str, words: str) -> Finding:
    """Nothing else can be looked at then."""
    return Finding(BAD, what, words, advice(words))


# --- version, clock, times ---------------------------------------------------------------------


def judge_version(client: str, schedd: str, binding: str, way: str) -> Finding:
    """``client``, ``schedd``: as ``$CondorVersion`` says. ``binding``: the commands' own
    SEC_FS_ENFORCE_CHANNEL_BINDING, empty when it is not set. ``way``: see ``Acting``."""
    here, there = _number(client), _number(schedd)
    if here is None or there is None:
        return Finding(WARNING, "version", f"unknown: {(client or schedd)[:100] or 'not shown'}")
    shown = "HTCondor {}.{}".format(*there)
    if here != there:
        shown = "the commands here are {}.{}, the schedd is {}.{}".format(*here, *there)
    checks = binding.strip().lower() not in ("false", "f", "no", "0")
    if here[0] >= BINDING > there[0] and checks:
        found = f"{shown}: FS authentication fails between them"
        verdict = WARNING if way == "token" else BAD
        return Finding(verdict, "version", found, advice("FS:1004:Directory name doesn't match"))
    if there < OLDEST:
        return Finding(WARNING, "version", f"{shown}, older than {OLDEST[0]}: never tried")
    tried = " and ".join("{}.{}".format(*each) for each in TRIED)
    note = "" if there in TRIED and here in TRIED else f" (tried with {tried})"
    return Finding(GOOD, "version", shown + note)


def _number(text: str) -> tuple[int, int] | None:
    match = re.search(r"(\d+)\.(\d+)\.\d+", text)
    return (int(match[1]), int(match[2])) if match else None


def judge_clock(ahead: float) -> Finding:
    """``ahead``: seconds of this machine's clock before the schedd's."""
    if abs(ahead) < CLOCK_WARNING:
        return Finding(GOOD, "clock", "as the schedd's")
    which = "ahead of" if ahead > 0 else "behind"
    verdict = BAD if abs(ahead) > CLOCK_BAD else WARNING
    found = f"{abs(ahead):.0f} s {which} the schedd's"
    return Finding(verdict, "clock", found, "let NTP or chrony set the clock here and there")


def judge_times(timeout: float, period: float, remember: float) -> Iterator[Finding]:
    """Our settings against HTCondor's own habits."""
    if timeout <= OWN_TIMEOUT:
        found = f"`timeout` is {timeout:g} s, and HTCondor itself waits for {OWN_TIMEOUT:g} s"
        better = f"set `timeout` to {OWN_TIMEOUT + 10:g} s, to hear what HTCondor says"
        yield Finding(WARNING, "timeout", found, better)
    if remember < 2 * period:
        found = f"ended jobs stay for {remember:g} s, and are looked for every {period:g} s"
        yield Finding(WARNING, "remember", found, "raise it, or how jobs ended stays unknown")


# --- the schedd's configuration ----------------------------------------------------------------


def judge_limits(config: Mapping[str, str], *, max_queued: int | None) -> Iterator[Finding]:
    """How many jobs the schedd takes of one user, of all, and at once."""
    if not config:
        found = "the schedd does not tell its configuration"
        yield Finding(
            WARNING, "limits", found, "let this account read it (ALLOW_CONFIG, ALLOW_READ)"
        )
        return
    limits = {name: int(text) for name, text in config.items() if text.isdecimal()}
    owner, all_jobs = limits.get("MAX_JOBS_PER_OWNER"), limits.get("MAX_JOBS_SUBMITTED")
    one, running = limits.get("MAX_JOBS_PER_SUBMISSION"), limits.get("MAX_JOBS_RUNNING")
    small = [limit for limit in (owner, all_jobs) if limit is not None and limit < FEW]
    if small and (max_queued is None or max_queued > min(small)):
        found = f"only {min(small)} jobs of one user or of all, those that ended lately counted"
        better = "set `max_queued_jobs` of the backend, and lower `remember`"
        yield Finding(WARNING, "limits", found, better)
    shown = (("one user", owner), ("all users", all_jobs), ("one submission", one))
    words = [f"{limit} of {whose}" for whose, limit in shown if limit is not None and limit < 10**9]
    words += [] if running is None else [f"{running} running"]
    yield Finding(GOOD, "most jobs", ", ".join(words) or "not shown")


def judge_rules(config: Mapping[str, str]) -> Iterator[Finding]:
    """What of the site's may change, refuse or end our jobs."""
    named = re.split(r"[,\s]+", config.get("JOB_TRANSFORM_NAMES", ""))
    names = " ".join(name for name in named if name and name not in OWN_TRANSFORMS)
    if names:
        better = (
            "see that they leave PenstockTag, Requirements, PeriodicRemove and LeaveJobInQueue "
        )
        better += "alone; `penstock doctor --probe` tries it"
        yield Finding(WARNING, "JOB_TRANSFORM_NAMES", f"{names} may change jobs", better)
    names = config.get("SUBMIT_REQUIREMENT_NAMES", "")
    if names:
        found = f"{names} may refuse jobs; users are told why"
        yield Finding(GOOD, "SUBMIT_REQUIREMENT_NAMES", found)
    for name in ("SYSTEM_PERIODIC_REMOVE", "SYSTEM_PERIODIC_HOLD"):
        text = config.get(name, "")
        if text and text.lower() != "false":
            found = f"ends jobs when {text[:200]}"
            better = "where that limits their time, say so with `pool_time`"
            yield Finding(WARNING, name, found, better)


# --- acting for users --------------------------------------------------------------------------

_PING = re.compile(r"^\s*WRITE\s+(\S+)\s.*?\b(ALLOW|DENY|FAIL)\b[ ]*(\S*)", re.MULTILINE)


def identity_of(table: str) -> str | None:
    """Whom the schedd takes us for, by ``condor_ping -table WRITE``; None when it does not let us
    submit."""
    match = _PING.search(table)
    return match[3] if match is not None and match[2] == "ALLOW" else None


def refused(whom: str, words: str) -> Finding:
    """The schedd lets nobody submit; ``words``: of ``condor_ping -verbose``."""
    lines = [line for line in words.splitlines() if "failed!" not in line]
    text = replies.said("\n".join(lines))
    return Finding(BAD, f"acting for {whom}", f"the schedd refuses it: {text}", advice(words))


def judge_identity(way: str, owner: str | None, identity: str, me: str) -> Finding:
    """Whose the jobs would be. ``me``: this process's own account."""
    what = f"acting for {owner or me}"
    user = identity.partition("@")[0]
    if way == "own" and user == "root":
        return Finding(BAD, what, "root can own no jobs in HTCondor", "run this as another user")
    if way == "own" or owner is None:
        return Finding(GOOD, what, f"the schedd takes this account for {identity}")
    if user == owner:
        return Finding(GOOD, what, f"jobs can be submitted as {identity}")
    found = f"the schedd takes this for {identity}, not for {owner}"
    better = "are there the same accounts on the schedd's machine, and FS among its methods?"
    if way == "token":
        better = "does the schedd trust `key` for `domain`, and map names to themselves?"
    return Finding(BAD, what, found, better)


def judge_super(config: Mapping[str, str], owner: str, identity: str) -> Finding:
    """Whether the schedd believes this account (``identity``) that jobs are the owner's."""
    what, user = f"acting for {owner}", identity.partition("@")[0]
    if not config:
        found = f"as {identity}; the schedd does not tell whether that is a QUEUE_SUPER_USER"
        return Finding(WARNING, what, found, "`--probe` tries it")
    supers = re.split(r"[,\s]+", config.get("QUEUE_SUPER_USERS", ""))
    if not {user, identity} & set(supers):
        found = f"the schedd takes this for {identity}, which is none of its QUEUE_SUPER_USERS"
        return Finding(BAD, what, found, f"add {user} to QUEUE_SUPER_USERS of the schedd")
    pattern = config.get("QUEUE_SUPER_USER_MAY_IMPERSONATE", "")
    try:
        allowed = bool(pattern) and re.search(pattern, owner) is not None
    except re.error:  # theirs are PCRE
        allowed = True
    if not allowed:
        found = f"QUEUE_SUPER_USER_MAY_IMPERSONATE is {pattern or 'not set'}, not for {owner}"
        better = "set it to .*, or to a pattern of your users' names"
        return Finding(BAD, what, found, better)
    note = "" if user == "root" else "; `--probe` tries whether the schedd knows it already"
    return Finding(GOOD, what, f"{identity} may name other owners{note}")
