"""The parent process: starts the Dask process, stands by, and reports how it ended.

It imports next to nothing (8 MB of its own), passes the output on and keeps its tail, and outlives
whatever happens to its child: out of memory, a crash in native code, an environment without
``distributed``. An agent inside of the Dask process would be simpler, and would die with it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import CodeType
from typing import Any, List, Optional, Tuple

from penstock.agent.activation import Env, plan_activation
from penstock.agent.base import (
    EXIT_BROKEN,
    Broken,
    Message,
    backoff,
    job_index,
    job_name,
    load_config,
    python_name,
    ssl_context,
)
from penstock.agent.endings import Ring, exit_code, explain, oom_kills
from penstock.agent.output import note, pass_on
from penstock.agent.sourcing import source_all

OLDEST_PYTHON = (3, 8)

TERM_GRACE = 20  # seconds between the SIGTERM that we pass on and SIGKILL

REPORT_TIME = 20.0  # seconds that an exit report may take over all

LAST_WORDS_TIME = 2.0  # the same for the output of a job that was told to end


class Supervisor:
    """Starts the child, stands by, and reports how it ended. ``program``: what the child runs."""

    def __init__(self, config: Message, program: str) -> None:
        self.config = config
        self.program = program
        self.ring = Ring()
        self.asked = False
        self.child: Optional[subprocess.Popen[bytes]] = None

    def run(self) -> int:
        """Run the child to its end and return the exit code of the job."""
        before = oom_kills()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.on_signal)
        signal.signal(signal.SIGALRM, self.on_alarm)
        try:
            env = self.activated(dict(os.environ))
            if self.asked:
                return exit_code(-signal.SIGTERM)
            said, status = self.run_child(env)
        except OSError as error:
            said, status = "cannot start %s: %s" % (python_name(), error), EXIT_BROKEN
        signal.alarm(0)
        code = exit_code(status)
        # Where workers share a job, the batch system does not see that one of them ended.
        if (code != 0 or "PENSTOCK_WORKERS" in os.environ) and not self.asked:
            reason = explain(code, said, oom_kills() - before)
            note("the %s ended: %s" % (self.config["role"], reason), self.ring)
            self.report(code, reason)
        elif self.asked or self.config["role"] == "scheduler":
            self.say_last_words(code)
        return code

    def activated(self, env: Env) -> Env:
        """The environment of the child: ours, after the activation of what was chosen."""
        activate = self.config["activate"]
        if not activate:
            return env
        plan = plan_activation(activate, env, self.say)
        if not plan.steps:
            return plan.env
        try:
            return source_all(plan, self.ring, self.started)
        except OSError as error:  # such as a full disk: what needs no shell is done all the same
            self.say("not activated by scripts: %s" % error)
            return plan.env
        finally:
            self.child = None

    def say(self, text: str) -> None:
        """A line of our own in the job's output."""
        note(text, self.ring)

    def started(self, child: "subprocess.Popen[bytes]") -> None:
        """There is a process now that signals go to."""
        self.child = child
        if self.asked:  # the signal came before
            child.send_signal(signal.SIGTERM)

    def run_child(self, env: Env) -> Tuple[str, int]:
        """(what the child said for a reason, its return code) once it is over."""
        reason_end, child_end = os.pipe()
        ids = [str(os.getpid()), str(child_end)]
        child = subprocess.Popen(
            [sys.executable, self.program, "--child", *ids],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(child_end,),
            env=dict({"PYTHONUNBUFFERED": "1"}, **env),
        )
        os.close(child_end)
        self.started(child)
        assert child.stdout is not None
        reader = threading.Thread(
            target=pass_on, args=(child.stdout.fileno(), self.ring), daemon=True
        )
        reader.start()
        status = child.wait()
        reader.join(2.0)  # a process of the user's may hold the pipe open for ever
        os.set_blocking(reason_end, False)
        try:
            return os.read(reason_end, 4096).decode("utf-8", "replace"), status
        except OSError:  # nothing said, and a process of the user's holds this pipe as well
            return "", status

    def on_signal(self, number: int, frame: object) -> None:
        """Pass the request to end on, and insist later."""
        self.asked = True
        if self.child is not None:
            self.child.send_signal(number)
        signal.alarm(TERM_GRACE)

    def on_alarm(self, number: int, frame: object) -> None:
        """The child had its time."""
        if self.child is not None:
            self.child.kill()

    def say_last_words(self, code: int) -> None:
        """Nothing is wrong, but whoever asks later shall find the end of the output. Only a try:
        the batch system is waiting for us."""
        signal.signal(signal.SIGALRM, lambda number, frame: os._exit(code))
        signal.alarm(int(LAST_WORDS_TIME) + 1)
        self.post(code, "", last_words=True, seconds=LAST_WORDS_TIME)

    def post(self, code: int, reason: str, last_words: bool, seconds: float) -> str:
        """One report; "" or why it could not be made."""
        body = {
            "job": job_name(self.config, job_index()),
            "code": code,
            "reason": reason,
            "tail": self.ring.text(),
            "last_words": last_words,
        }
        return post_exit(self.config, json.dumps(body).encode(), seconds)

    def report(self, code: int, reason: str) -> None:
        """Tell the server how the child ended."""
        error = self.post(code, reason, last_words=False, seconds=REPORT_TIME)
        if error:
            note("no server took the report of this: %s" % error, self.ring)


def post_exit(config: Message, body: bytes, seconds: float) -> str:
    """POST an exit report to the first server that answers; "" or the last error's words."""
    import urllib.error
    import urllib.request

    # The servers are the facility's own: a web proxy of the user's environment is not on the way.
    handlers: List[Any] = [urllib.request.ProxyHandler({})]
    if any(str(server).startswith("https:") for server in config["servers"]):
        handlers.append(urllib.request.HTTPSHandler(context=ssl_context(config)))
    opener = urllib.request.build_opener(*handlers)
    headers = {"Authorization": "token " + config["token"], "Content-Type": "application/json"}
    end, error = time.monotonic() + seconds, "no server is configured"
    for pause in backoff():
        for server in config["servers"]:
            url = "%s/api/v1/clusters/%s/exits" % (server.rstrip("/"), config["cluster"])
            try:
                request = urllib.request.Request(url, data=body, headers=headers, method="POST")
                left = end - time.monotonic()
                opener.open(request, timeout=max(0.1, min(5.0, left))).close()
                return ""
            except urllib.error.HTTPError as answer:
                error = "%s says %d" % (server, answer.code)
                if answer.code < 500:
                    return error
            except (OSError, ValueError) as problem:
                error = "%s: %s" % (server, problem)
        if time.monotonic() + pause >= end:
            break
        time.sleep(pause)
    return error


def compiled(code: CodeType) -> str:
    """The path of a file with this code, which Python need not compile again: Dask's processes all
    begin with this program. The path of the program's text where that cannot be written."""
    import marshal
    from importlib.util import MAGIC_NUMBER

    text = os.path.abspath(__file__)
    try:  # magic, flags, and the source's time and size, which scripts are not asked for (PEP 552)
        with open(text + "c", "wb") as file:
            file.write(MAGIC_NUMBER + bytes(12) + marshal.dumps(code))
    except OSError:
        return text
    return text + "c"


def supervise(code: CodeType) -> int:
    """The supervisor's main: the exit code of the job. ``code``: this program's."""
    try:
        config = load_config()
    except Broken as error:
        note(str(error), Ring())
        return EXIT_BROKEN
    reason = os.environ.get("PENSTOCK_FAILED", "")  # what came before Python, in the site's words
    if not reason and sys.version_info < OLDEST_PYTHON:
        reason = "%s is too old: Dask clusters need Python 3.8 or newer" % python_name()
    if reason:
        supervisor = Supervisor(config, __file__)
        note(reason, supervisor.ring)
        supervisor.report(EXIT_BROKEN, reason)
        return EXIT_BROKEN
    return Supervisor(config, compiled(code)).run()
