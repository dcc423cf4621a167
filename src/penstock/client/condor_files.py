"""What ``setup_condor`` decides: the words it sends, what it makes of the answers, what it writes. Pure.

HTCondor's client tools read ``~/.condor/user_config`` after every other configuration, and every
file of ``~/.condor/tokens.d`` (manual, "User and Personal Configuration", "Introduction to
Configuration"). A later line wins, so a block of ours at the end needs to take nothing away.
"""

from __future__ import annotations

import base64
import difflib
import json
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BEGIN, END = "# >>> setup_condor >>>", "# <<< setup_condor <<<"

MARK = "setup_condor"
"""What the lines of the remote script begin with: logins print words of their own."""

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,127}")
_LINE = re.compile(r"^\s*(?P<name>[A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(?P<value>.*?)\s*$")

NO_COMMAND, NOT_MEMBER = 97, 98
"""How the remote script ends when there is nothing to fetch with, or the user is in no such group."""


class SetupError(Exception):
    """Why it did not work; one sentence for the user."""


@dataclass(frozen=True)
class Token:
    """What a token says of itself; the token is no part of it."""

    identity: str
    issuer: str
    expires: float | None

    def __str__(self) -> str:
        end = "never expires"
        if self.expires is not None:
            end = f"expires {time.strftime('%Y-%m-%d %H:%M', time.localtime(self.expires))}"
        return f"{self.identity} at {self.issuer}, {end}"


def remote_command(fetch: Sequence[str], group: str | None) -> str:
    """What the login node's shell shall run, whichever shell that is: one login fetches all."""
    steps = [f'echo "{MARK} groups $(id -Gn)"']
    if group is not None:
        members = (
            f'case " $(id -Gn) " in *{shlex.quote(f" {group} ")}*) ;; *) exit {NOT_MEMBER};; esac'
        )
        steps.append(members)
    steps.append(f"command -v {shlex.quote(fetch[0])} >/dev/null || exit {NO_COMMAND}")
    steps.append(f"token=$({shlex.join(fetch)}) || exit $?")
    steps.append(f'echo "{MARK} token $token"')
    return f"exec sh -c {shlex.quote('; '.join(steps))}"


def answer(output: str, word: str) -> str:
    """What the remote script said of ``word``; "" when it did not."""
    found = re.findall(rf"^{MARK} {word} (.*?)\r?$", output, re.MULTILINE)
    return found[-1].strip() if found else ""


def read_token(text: str) -> Token:
    """What a token says. Raises SetupError when it is none (an IDTOKEN is a JSON Web Token)."""
    parts = text.strip().split(".")
    try:
        if len(parts) != 3 or not re.fullmatch(r"[A-Za-z0-9_.-]+", text.strip()):
            raise ValueError
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires = claims.get("exp")
        return Token(
            str(claims["sub"]), str(claims["iss"]), None if expires is None else float(expires)
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SetupError("What the login node sent is no HTCondor token") from None


def why_ssh_failed(host: str, code: int, said: str) -> str:
    """A sentence about an ssh that ended with an error, from its own words (OpenSSH's)."""
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    told = f" ({last})" if last else ""
    if code == 255 and re.search(r"Host key verification failed|IDENTIFICATION HAS CHANGED", said):
        return (
            f"The host key of {host} was not accepted: compare its fingerprint with the one that "
            f"your site publishes, then log in once with ssh{told}"
        )
    if code == 255 and "Permission denied" in said:
        return f"{host} refused the login: wrong name, password or second factor{told}"
    if code == 255:
        return f"ssh did not reach {host}{told}"
    return f"{host} gave no token: the command ended with code {code}{told}"


def settings(schedd: str, collector: str, methods: str) -> dict[str, str]:
    """What HTCondor's tools must know to talk to a pool from outside."""
    return {
        "CONDOR_HOST": collector,
        "COLLECTOR_HOST": collector,
        "SCHEDD_HOST": schedd,
        "SEC_CLIENT_AUTHENTICATION_METHODS": methods,
    }


def with_block(text: str, values: Mapping[str, str]) -> str:
    """The same configuration with our block at its end; all other lines stay as they are.

    Raises SetupError when a block of ours begins and does not end.
    """
    lines = text.splitlines()
    if BEGIN in lines:
        first = lines.index(BEGIN)
        if END not in lines[first:]:
            raise SetupError(f"The line {BEGIN!r} has no {END!r} after it; take the block away")
        del lines[first : first + lines[first:].index(END) + 1]
        while first == len(lines) and lines and not lines[-1].strip():
            lines.pop()
            first -= 1
    block = [BEGIN, *(f"{name} = {value}" for name, value in values.items()), END]
    return "\n".join([*lines, *([""] if lines else []), *block]) + "\n"


def overridden(text: str, values: Mapping[str, str]) -> list[str]:
    """Lines of the user's own that our block now wins over with another value."""
    found, inside = [], False
    for number, line in enumerate(text.splitlines(), 1):
        inside = (inside or line == BEGIN) and line != END
        match = _LINE.match(line)
        if inside or match is None:
            continue
        wanted = values.get(match["name"].upper())
        if wanted is not None and wanted != match["value"]:
            found.append(f"line {number}: {line.strip()}")
    return found


def diff(path: str, before: str, after: str) -> str:
    """What changes in a file, as ``diff -u`` shows it; "" when nothing does."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), path, path, n=2, lineterm=""
    )
    return "\n".join(lines)
