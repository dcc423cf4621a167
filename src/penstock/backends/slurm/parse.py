"""What the ends of Slurm's commands mean, and other words of theirs but ``squeue``'s. Pure.

Words were observed with Slurm 22.05 and 24.11.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from penstock.model.errors import BackendError, Full, Rejected, Unavailable, Uncertain

_UNCERTAIN = re.compile(
    r"Socket timed out|Zero Bytes|Transport endpoint|Connection reset|Broken pipe|"
    r"Insane message length|Message receive failure|Header lengths are longer",
    re.IGNORECASE,
)
_UNAVAILABLE = re.compile(
    r"Unable to contact slurm controller|Protocol authentication error|Munge|auth_g_create|"
    r"Connection refused|Unable to establish|in standby mode|"
    r"Could not establish a configuration source|Unable to open .*slurm\.conf|"
    r"Resource temporarily unavailable|Cannot allocate memory",
    re.IGNORECASE,
)
_FULL = re.compile(
    # The association's or QOS's limit of submitted jobs; the words stand before the general ones of
    # ESLURM_ACCOUNTING_POLICY, which also mean limits that no waiting helps (job_reason_str.c).
    r"(?:Assoc|QOS)\w*SubmitJob|"
    # MaxJobCount: sbatch tries again for two minutes before it says the last of these (sbatch.c).
    r"sleeping and retrying|job submission failed: Resource temporarily unavailable",
    re.IGNORECASE,
)
_LIMITS = re.compile(r"Job violates accounting/QOS policy", re.IGNORECASE)
_WHICH_LIMIT = re.compile(r"\b(?:Assoc|QOS)\w+")
"""sbatch says it in a line of its own; slurmrestd says so of some."""

WAITS = "sleeping and retrying"
"""What sbatch says before it waits by itself, having got nothing."""

_ALREADY_OVER = re.compile(r"Invalid job id specified|already completing or completed")
_PREFIX = re.compile(
    r"^(?:sbatch|scancel|squeue|scontrol|slurm_\w+)?:?\s*(?:error|fatal):\s*", re.M
)
_SAID_MOST = 500


class OverLimit(Rejected):
    """A limit of the account or of the QOS: of the number of jobs, or of what one of them asks for.

    slurmrestd does not say which. In the first case fewer jobs may go now, or the same ones later.
    ``words``: Slurm's own.
    """

    def __init__(self, words: str) -> None:
        super().__init__(f"Slurm refused the job: {words}")
        self.words = words


def ranges(indices: Collection[int]) -> str:
    """Task numbers as Slurm writes them in brackets: ``0-3,7``."""
    parts: list[list[int]] = []
    for index in sorted(set(indices)):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def max_array_size(config: str) -> int | None:
    """How many tasks an array may have, from ``scontrol show config``; None when it is not there.

    Task numbers go up to one less than MaxArraySize (slurm.conf(5)); 0 means no arrays at all.
    """
    match = re.search(r"^MaxArraySize\s*=\s*([0-9]+)\s*$", config, re.MULTILINE)
    return int(match[1]) if match else None


def said(errors: str) -> str:
    """Slurm's own words in one line."""
    lines = [_PREFIX.sub("", line).strip() for line in errors.splitlines()]
    text = "; ".join(dict.fromkeys(filter(None, lines)))
    return text[:_SAID_MOST] or "it said nothing"


def submit_error(code: int | None, errors: str) -> BackendError | None:
    """What the end of an ``sbatch`` means; None when the jobs were taken.

    ``code``: None when it had to be killed for want of time. Words decide, not codes: any failure
    is 1, and a time-out may well have been a success.
    """
    if code == 0:
        return None
    words = said(errors)
    if code is not None and _FULL.search(errors):
        return Full(f"Slurm takes no more jobs now: {words}")
    if code is None:
        return Uncertain(f"sbatch did not end in time ({words})")
    if _UNCERTAIN.search(errors):
        return Uncertain(f"Slurm did not answer: {words}")
    if _UNAVAILABLE.search(errors):
        return Unavailable(f"Slurm cannot be reached: {words}")
    if _LIMITS.search(errors) and not _WHICH_LIMIT.search(errors):
        return OverLimit(words)
    if code > 0 and errors.strip():
        return Rejected(f"Slurm refused the job: {words}")
    return Uncertain(f"sbatch ended with {code} ({words})")


def ask_error(command: str, code: int | None, errors: str) -> Unavailable | None:
    """What the end of a question means: its exit code is not to be trusted, so words count too."""
    if code is None:
        return Unavailable(f"{command} did not end in time ({said(errors)})")
    if code or re.search(r"\berror:", errors):
        return Unavailable(f"Slurm did not answer {command}: {said(errors)}")
    return None


def cancel_error(code: int | None, errors: str) -> Unavailable | None:
    """What the end of a ``scancel`` means; jobs that are over already are no failure."""
    if code is None:
        return Unavailable(f"scancel did not end in time ({said(errors)})")
    lines = _without_over(errors.splitlines())
    if lines or (code and not errors.strip()):
        return Unavailable(f"Slurm did not take the cancellation: {said(chr(10).join(lines))}")
    return None


def _without_over(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if line.strip() and not _ALREADY_OVER.search(line)]
