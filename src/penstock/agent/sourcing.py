"""One shell that runs an environment's activation scripts and tells what became of the variables.

Only a shell can source a script; all else of an activation is done without one, and most
environments have no script. Paths and statements reach it as arguments, never as its program. A
script that fails is said and the rest goes on, as with ``conda activate``; one that hangs, or that
leaves an environment in which not even Python starts, loses all that the scripts did.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import Any, Callable, List, Sequence

from penstock.agent.activation import IDENTIFIER, Env, Plan, Step
from penstock.agent.base import here
from penstock.agent.child import die_with
from penstock.agent.endings import Ring
from penstock.agent.output import note, pass_on

ACTIVATION_TIME = 60.0  # seconds for all scripts of an environment together

SHELLS = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash", "/bin/sh")

SHELL_ONLY = ("BASH_ENV", "ENV")  # would have the shell run something else first

SHELLS_OWN = (  # a shell changes or forgets them by itself
    *("_", "SHLVL", "PWD", "OLDPWD", "IFS", "OPTIND", "LINENO", "SECONDS", "RANDOM", "SRANDOM"),
    *("PS1", "PS2", "PS4", "COLUMNS", "LINES", "PPID", "EPOCHSECONDS", "EPOCHREALTIME"),
)

DUMP = """
import os, sys
try:  # as it was given to us: Python itself may add LC_CTYPE (PEP 538)
    data = open("/proc/self/environ", "rb").read()
except OSError:
    data = b"".join(k + b"=" + v + b"\\0" for k, v in os.environb.items())
fd = int(sys.argv[1])
os.ftruncate(fd, 0)
os.lseek(fd, 0, 0)
while data:
    data = data[os.write(fd, data):]
"""


def shell_program(steps: Sequence[Step]) -> str:
    """The shell's program: nothing in it but numbers of arguments ($1: the Python that tells the
    variables, $2: its program, $3: where to; then the steps).

    Scripts are sourced at the top level and see no arguments, as in a terminal: in a function,
    bash would keep what they ``declare`` to itself. The trap is for one that calls ``exit``.
    """
    lines = ["penstock_python=$1 penstock_dump=$2 penstock_fd=$3"]
    lines += ["penstock_%d=${%d}" % (number, number + 4) for number in range(len(steps))]
    dump = '"$penstock_python" -I -S -c "$penstock_dump" "$penstock_fd"'
    lines += ["set --", "trap '%s' EXIT" % dump]
    failed = 'printf "penstock: %%s ended with code %%s\\n" "$penstock_%d" "$?" >&2'
    for number, step in enumerate(steps):
        command = ". %s" if step.script else "eval %s"
        lines.append((command + " || " + failed) % ('"$penstock_%d"' % number, number))
    lines += ["trap - EXIT", dump]
    return "\n".join(lines) + "\n"


def source_all(plan: Plan, ring: Ring, started: Callable[[Any], None]) -> Env:
    """The environment after a plan's steps, or as it was before them when they came to no end.

    Blocks for up to ``ACTIVATION_TIME``. ``started`` is told the shell's process.
    """
    import tempfile

    with tempfile.TemporaryFile(dir=here()) as file:
        status = run_shell(plan, file.fileno(), ring, started)
        file.seek(0)
        after = parse_environment(file.read())
    if after and status is not None:
        return settled(plan.env, after)
    if status is None:
        why = "its scripts took more than %d seconds" % ACTIVATION_TIME
    else:
        why = "they ended (%d) in an environment in which %s does not start" % (
            status,
            sys.executable,
        )
    note("not activated by scripts, what they set is left out: %s" % why, ring)
    return plan.env


def run_shell(plan: Plan, fd: int, ring: Ring, started: Callable[[Any], None]) -> Any:
    """Run the steps; the shell's return code, None when it had to be killed for its time."""
    shell = next((path for path in SHELLS if os.access(path, os.X_OK)), "sh")
    options = ["--noprofile", "--norc"] if shell.endswith("bash") else []
    words: List[str] = [shell, *options, "-c", shell_program(plan.steps), "penstock"]
    words += [sys.executable, DUMP, str(fd)]
    words += [step.text for step in plan.steps]
    parent = os.getpid()
    process = subprocess.Popen(
        words,
        preexec_fn=lambda: die_with(parent),  # noqa: PLW1509 (there is no other thread yet)
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(fd,),
        env={name: value for name, value in plan.env.items() if name not in SHELL_ONLY},
        start_new_session=True,
    )
    started(process)
    assert process.stdout is not None
    reader = threading.Thread(target=pass_on, args=(process.stdout.fileno(), ring), daemon=True)
    reader.start()
    status = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        status = process.wait(ACTIVATION_TIME)
    if status is None or status < 0:  # what it started hangs as well, or was not told to end
        kill_group(process.pid)
    process.wait()
    reader.join(2.0)
    if not reader.is_alive():  # what a script left in the background may print for ever
        process.stdout.close()
    return status


def kill_group(pid: int) -> None:
    """Kill a shell and all of its processes that stayed with it."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def parse_environment(data: bytes) -> Env:
    """Variables from ``NAME=value`` that are each ended by a NUL."""
    pairs = (item.partition(b"=") for item in data.split(b"\0") if item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def settled(before: Env, after: Env) -> Env:
    """What the scripts made of the variables, without what a shell does by itself."""
    env = {name: value for name, value in after.items() if not name.startswith("penstock_")}
    for name in (*SHELLS_OWN, *SHELL_ONLY):
        if name in SHELLS_OWN:
            env.pop(name, None)
        if name in before:
            env.setdefault(name, before[name])
    for name, value in before.items():
        if not IDENTIFIER.fullmatch(name):  # no script can have meant it, and some shells drop it
            env.setdefault(name, value)
    return env
