"""What it means when one of HTCondor's commands fails. Pure.

Any failure is exit code 1, so words decide; they were observed with HTCondor 23.9 and 25.14.
"""

from __future__ import annotations

import re

from penstock.model.errors import Absent, BackendError, Full, Rejected, Unavailable, Uncertain

_SAID_MOST = 500

_UNAVAILABLE = re.compile(
    r"Can't find address|Failed to connect|Failed to fetch ads|CEDAR:600[0-9]|SECMAN:200[0-9]|"
    r"AUTHENTICATE:|AUTHENTICATION|Failed to (?:start|initiate|create) .*command|"
    r"Unable to (?:locate|contact|establish)|Connection refused|No route to host|Error: \(null\)|"
    r"Neither the environment variable CONDOR_CONFIG|Can't find the condor_schedd|"
    r"Cannot allocate a cluster id|Token .*expired|not authorized|PERMISSION DENIED",
    re.IGNORECASE,
)
_UNWELCOME = re.compile(
    r"AUTHENTICAT|not authorized|PERMISSION DENIED|Token .*expired", re.IGNORECASE
)
_FULL = re.compile(r"would exceed MAX_JOBS_PER_OWNER|MAX_JOBS_SUBMITTED", re.IGNORECASE)
_LARGE = re.compile(r"would exceed MAX_JOBS_PER_SUBMISSION", re.IGNORECASE)
_UNCERTAIN = re.compile(
    r"Failed to end classad|Connection closed|Broken pipe|Connection reset|Communication error|"
    r"Failed to (?:spool|transfer)|spoolJobFiles|timed? ?out",
    re.IGNORECASE,
)
_NOT_COMMITTED = re.compile(r".*Failed to commit job submission.*\n?")
"""What follows it is why the schedd refused; alone, it may be only the answer that was lost."""
_ABSENT = re.compile(r"Couldn't find/remove all jobs matching|not found", re.IGNORECASE)


def said(errors: str) -> str:
    """HTCondor's own words in one line."""
    lines = [re.sub(r"^(?:ERROR|WARNING):\s*", "", line.strip()) for line in errors.splitlines()]
    text = "; ".join(dict.fromkeys(line for line in lines if line and not line.startswith("-- ")))
    return text[:_SAID_MOST] or "it said nothing"


def submit_error(code: int | None, errors: str) -> BackendError | None:
    """What the end of a ``condor_submit`` means; None when the jobs were taken.

    ``code``: None when it had to be killed for want of time. Any failure is 1, so words decide.
    """
    if code == 0:
        return None
    words = said(errors)
    if code is None:
        return Uncertain(f"condor_submit did not end in time ({words})")
    rest = _NOT_COMMITTED.sub("", errors)
    unreachable = _UNAVAILABLE.search(rest)
    if _FULL.search(errors):
        return Full(f"HTCondor takes no more jobs now: {words}")
    if _LARGE.search(errors):
        return Full(f"HTCondor takes fewer jobs at a time: {words}")
    if unreachable and rest == errors:
        if _UNWELCOME.search(errors):  # others may be
            return Absent(f"HTCondor did not let the user in, will try again: {words}")
        return Unavailable(f"HTCondor cannot be reached: {words}")
    if unreachable or _UNCERTAIN.search(rest) or code < 0 or not rest.strip():
        return Uncertain(f"condor_submit ended with {code}: {words}")
    return Rejected(f"HTCondor refused the job: {said(rest)}")


def ask_error(command: str, code: int | None, errors: str) -> Unavailable | None:
    """What the end of a question means. Nothing said and nothing wrong is an answer: no jobs."""
    if code is None:
        return Unavailable(f"{command} did not end in time ({said(errors)})")
    if code or re.search(r"^ERROR|Failed to fetch", errors, re.MULTILINE | re.IGNORECASE):
        return Unavailable(f"HTCondor did not answer {command}: {said(errors)}")
    return None


def removal_error(code: int | None, errors: str) -> Unavailable | None:
    """What the end of a ``condor_rm`` means. That nothing matched is none: but see ``was_absent``."""
    if code == 0 or (code is not None and was_absent(code, errors)):
        return None
    if code is None:
        return Unavailable(f"condor_rm did not end in time ({said(errors)})")
    return Unavailable(f"HTCondor did not take the removal: {said(errors)}")


def was_absent(code: int | None, errors: str) -> bool:
    """Whether ``condor_rm`` found nothing, which it also says of jobs that it may not touch (and,
    besides the reason, when it was not let in)."""
    let_in = _UNAVAILABLE.search(errors) is None
    return code == 1 and let_in and _ABSENT.search(errors) is not None
