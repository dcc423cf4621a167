#!/usr/bin/python3 -IS
"""penstock-slurm: all that an unprivileged Penstock may do in the name of a user.

sudo starts it as that user, never as root, by one rule that names this file and no arguments. It
reads one request, checks everything itself and trusts the caller in nothing: it submits jobs that
bear a tag of Penstock, cancels only those, and reads or deletes only their output. Nothing of the
caller's environment, no command, path or option that is not named here reaches Slurm.

One file for root to install and to read, see docs/admin/slurm-users.md: any Python from 3.6 on,
nothing but the standard library. Settings of the site may stand beside it, in a file of the same
name that ends in .json: owned by root, writable by nobody else.
"""

import json
import os
import re
import signal
import stat
import sys
from contextlib import suppress
from subprocess import PIPE, Popen
from typing import Any, Dict, List, Optional, Tuple

VERSION = 2
MAX_REQUEST, MAX_SECONDS = 2 * 2**20, 600
MAX_SCRIPT = MAX_OUTPUT = 4 * 2**20

TAG = re.compile(r"p-([0-9a-f]{8})-[0-9a-f]{32}-(0|[1-9][0-9]{0,7})")
COMMENT = re.compile("(" + TAG.pattern + r")( [1-9][0-9]?x[1-9][0-9]{0,5})?")
TASKS = re.compile(r"[0-9]{1,8}(-[0-9]{1,8})?(,[0-9]{1,8}(-[0-9]{1,8})?)*")
OPTION = re.compile(r"--([a-z][a-z0-9-]*)(?:=([^\x00-\x1f\x7f]{0,1024}))?")
IN_SCRIPT = re.compile(rb"^#(SBATCH|PBS|BSUB)\b", re.MULTILINE)
NOWHERE, FLAG = "/dev/null", None
FIXED = {"chdir": "/", "input": NOWHERE, "output": NOWHERE, "parsable": FLAG, "test-only": FLAG}

OPTIONS = set(
    "array job-name comment no-requeue nodes ntasks cpus-per-task mem gres time partition account "
    "qos reservation constraint nodelist exclude licenses signal begin contiguous core-spec "
    "deadline delay-boot dependency distribution exclusive gpu-bind gpus gpus-per-node "
    "gpus-per-task gres-flags hint kill-on-invalid-dep mem-per-cpu mem-per-gpu mincpus nice "
    "ntasks-per-core ntasks-per-gpu ntasks-per-node overcommit oversubscribe prefer priority "
    "spread-job switches threads-per-core time-min tmp use-min-nodes wckey".split()
)
"""Options of sbatch that say which resources a job gets, and when; none names a file or a user."""

WAITS = b"sleeping and retrying"
"""What sbatch says before it waits two minutes by itself where MaxJobCount is reached, having got nothing."""

SITE = os.path.realpath(__file__) + ".json"
SITE_DEFAULTS = {"path": "", "slurm_conf": "", "options": [], "gateways": []}  # type: Dict[str, Any]


class Refused(Exception):
    """The request is not one that is ever carried out."""


class Late(Exception):
    """The time of the request is over."""


def site_settings() -> Dict[str, Any]:
    """What root wrote beside this file, if anything."""
    try:
        handle = os.open(SITE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return dict(SITE_DEFAULTS)
    with os.fdopen(handle, "rb") as file:
        for status in (os.fstat(file.fileno()), os.stat(os.path.dirname(SITE))):
            if status.st_uid != 0 or status.st_mode & 0o022:
                raise Refused(SITE + " and its directory must be root's, and writable by no other")
        try:
            found = json.loads(file.read().decode())
        except ValueError as error:
            raise Refused("{} is not JSON: {}".format(SITE, error))
    unknown = sorted(set(found) - set(SITE_DEFAULTS)) if isinstance(found, dict) else ["it"]
    wrong = unknown or [k for k in found if type(found[k]) is not type(SITE_DEFAULTS[k])]
    if wrong:
        raise Refused("{}: {} cannot be understood".format(SITE, ", ".join(wrong)))
    return dict(SITE_DEFAULTS, **found)


class Helper:
    """One request of one user."""

    def __init__(self, site: Dict[str, Any], request: Dict[str, Any], data: bytes) -> None:
        self.site, self.request, self.data = site, request, data
        path = ":".join(filter(None, [site["path"], "/usr/local/bin:/usr/bin:/bin"]))
        self.environ = {"PATH": path, "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}
        if site["slurm_conf"]:
            self.environ["SLURM_CONF"] = site["slurm_conf"]

    def check(self) -> Dict[str, Any]:
        """Whether we could: that we are there, and sbatch is."""
        return self._run(["sbatch", "--version"])

    def submit(self) -> Dict[str, Any]:
        """One sbatch, with the script that came along."""
        words = self.request.get("words")
        if not isinstance(words, list):
            raise Refused("a submission needs a list of options")
        given = dict(self._option(word) for word in words)
        if "test-only" not in given:  # then nothing is submitted that could be tagged
            self._tag(given.get("comment") or "", COMMENT)
        if not re.fullmatch(r"0-[0-9]{1,8}", given.get("array") or ""):
            raise Refused("a submission needs --array")
        if not self.data.startswith(b"#!") or len(self.data) > MAX_SCRIPT:
            raise Refused("a submission needs a script of at most %d bytes" % MAX_SCRIPT)
        if IN_SCRIPT.search(self.data):
            raise Refused("a script must not hold options for sbatch (a line with #SBATCH)")
        return self._run(["sbatch", *words], self.data, hopeless=WAITS)

    def cancel(self) -> Dict[str, Any]:
        """One scancel of tasks whose jobs are this user's and bear a tag of Penstock."""
        arrays, number = self.request.get("arrays"), self.request.get("signal", 0)
        if not isinstance(arrays, dict) or number not in (0, *range(34, 65)):
            raise Refused("a cancellation needs arrays, and a real-time signal or none")
        for base, tasks in arrays.items():
            if not re.fullmatch(r"[1-9][0-9]{0,9}", base) or not TASKS.fullmatch(str(tasks)):
                raise Refused("these are no tasks of an array: %.100r" % [base, tasks])
        mine, errors = self._arrays()
        if errors is not None:
            return errors
        strange = sorted(base for base in arrays if base in mine and not mine[base])
        if strange:
            raise Refused("job {} is none of Penstock's".format(", ".join(strange)))
        words = ["{}_[{}]".format(base, arrays[base]) for base in sorted(arrays) if base in mine]
        options = ["--batch", "--signal=%d" % number] if number else []
        return self._run(["scancel", *options, *words]) if words else {"code": 0}

    def tail(self) -> Dict[str, Any]:
        """The end of the output of one job."""
        index, limit = self.request.get("index"), self.request.get("limit")
        if type(index) is not int or type(limit) is not int:
            raise Refused("output needs an index and a limit")
        logs, tag = self._place()
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            handle = os.open("%d.log" % index, flags, dir_fd=own_directory(logs, tag))
        except OSError:
            return {"code": 0}
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return {"code": 0}
        limit = max(0, min(limit, MAX_OUTPUT))
        os.lseek(handle, max(0, status.st_size - limit), os.SEEK_SET)
        return {"code": 0, "output": os.read(handle, limit).decode("latin-1")}

    def remove(self) -> Dict[str, Any]:
        """The output of a batch goes."""
        import shutil  # only here: it takes a while, and submissions do without

        logs, tag = self._place()
        try:
            own_directory(logs, tag)
        except OSError:
            return {"code": 0}
        try:
            os.chdir(logs)
            shutil.rmtree(tag)  # which follows no links
        except OSError as error:
            return {"code": 1, "errors": "{}: {}".format(tag, error.strerror)}
        return {"code": 0}

    def _option(self, word: Any) -> Tuple[str, Optional[str]]:
        match = OPTION.fullmatch(word) if isinstance(word, str) else None
        if match is None:
            raise Refused("not an option of sbatch: %.100r" % (word,))
        name, value = match.groups()
        if name in ("nodelist", "exclude") and "/" in (value or ""):  # a file with their names
            raise Refused("--{} must name nodes; sbatch would read a file".format(name))
        if name in FIXED:
            if value != FIXED[name]:
                raise Refused("--{} must be {}".format(name, FIXED[name] or "alone"))
        elif name not in OPTIONS and name not in self.site["options"]:
            text = "--{0} is not allowed here: name {0} in 'options' of {1} if it should be"
            raise Refused(text.format(name, SITE))
        return name, value

    def _tag(self, text: Any, form: "re.Pattern[str]") -> str:
        if not isinstance(text, str) or not form.fullmatch(text):
            raise Refused("not a tag of Penstock: %.100r" % (text,))
        if self.site["gateways"] and text[2:10] not in self.site["gateways"]:
            raise Refused("gateway {} is not one of this site's".format(text[2:10]))
        return text

    def _place(self) -> Tuple[str, str]:
        logs, tag = self.request.get("logs"), self._tag(self.request.get("tag"), TAG)
        if not isinstance(logs, str) or logs[:1] != "/" or "\0" in logs or ".." in logs.split("/"):
            raise Refused("not an absolute path: %.100r" % (logs,))
        return logs, tag

    def _arrays(self) -> Tuple[Dict[str, bool], Optional[Dict[str, Any]]]:
        """The arrays of this user that live, and whether each bears a tag; or Slurm's words."""
        mark = "|" + os.urandom(8).hex() + "|"  # comments are free text
        form = "ArrayJobID:{0},UserID:{0},Comment:{0}".format(mark)
        done = self._run(["squeue", "-h", "-r", "-u", str(os.getuid()), "-O", form])
        if done["code"] != 0 or "error:" in done["errors"]:
            return {}, done if done["code"] is None else dict(done, code=done["code"] or 1)
        fields = done["output"].split(mark)
        found = {}  # type: Dict[str, bool]
        for base, uid, comment in zip(fields[0::3], fields[1::3], fields[2::3]):
            if uid.strip() == str(os.getuid()):
                found[base.strip()] = self._ours(comment) and found.get(base.strip(), True)
        return found, None

    def _ours(self, comment: str) -> bool:
        try:
            return bool(self._tag(comment, COMMENT))
        except Refused:
            return False

    def _run(self, words: List[str], data: bytes = b"", hopeless: bytes = b"") -> Dict[str, Any]:
        try:  # it is looked for in the PATH of env
            process = Popen(words, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self.environ)
        except (FileNotFoundError, PermissionError):
            text = "there is no {} in {}".format(words[0], self.environ["PATH"])
            return {"code": 1, "unavailable": text}
        try:
            output, errors = talk(process, data, hopeless)
        except Late:
            process.kill()
            process.wait()
            return {"code": None}
        return {
            "code": process.wait(),
            "errors": errors.decode(errors="replace"),
            "output": output.decode(errors="replace"),
        }


def talk(process: Any, data: bytes, hopeless: bytes) -> Tuple[bytes, bytes]:
    """What ``communicate`` does; a process that says ``hopeless`` is killed."""
    if not hopeless:
        return process.communicate(data)  # type: ignore[no-any-return]
    with suppress(BrokenPipeError), process.stdin as stdin:  # its errors say why it took nothing
        stdin.write(data)
    errors = b""
    for line in process.stderr:
        errors += line
        if hopeless in line:
            process.kill()
    return process.stdout.read(), errors


def own_directory(logs: str, tag: str) -> int:
    """The directory of a batch's output, open: only if this user owns it, and by no link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    handle = os.open(tag, flags | os.O_NOFOLLOW, dir_fd=os.open(logs, flags))
    if os.fstat(handle).st_uid != os.getuid():
        raise PermissionError
    return handle


def answer() -> Dict[str, Any]:
    """Read, check and carry out one request: a line of JSON, then a script if there is one."""
    if os.getuid() == 0 or os.geteuid() == 0 or os.getuid() != os.geteuid():
        raise Refused("it never runs as root; let the rule of sudo name users")
    if len(sys.argv) > 1:
        raise Refused("it takes no arguments")
    line, _, data = sys.stdin.buffer.read(MAX_REQUEST + MAX_SCRIPT + 2).partition(b"\n")
    if len(line) > MAX_REQUEST:
        raise Refused("the request is too long")
    try:
        request = json.loads(line.decode())
        verb, version = request["verb"], request["version"]
        seconds = min(MAX_SECONDS, max(1, int(request["seconds"])))
    except (ValueError, KeyError, TypeError):
        raise Refused("the request cannot be understood")
    if version != VERSION:
        text = "it is of version {}, the gateway of version {}: install the gateway's again"
        raise Refused(text.format(VERSION, version))
    signal.alarm(seconds)  # nobody but root can end us: the caller may not, and sudo does not
    if verb not in ("check", "submit", "cancel", "tail", "remove"):
        raise Refused("there is no verb %.40r" % (verb,))
    return dict(getattr(Helper(site_settings(), request, data), verb)())


def late(*_: object) -> None:
    """The handler of the alarm."""
    raise Late


def main() -> None:
    """Answer one request in one line of JSON."""
    os.umask(0o022)
    os.chdir("/")
    signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    try:
        told = answer()
    except Refused as error:
        told = {"refused": str(error)}
    except Late:
        told = {"code": None}
    signal.alarm(0)
    print(json.dumps(dict(told, version=VERSION)))


if __name__ == "__main__":
    main()
