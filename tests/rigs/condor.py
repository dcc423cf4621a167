"""A real HTCondor pool of one's own on loopback: master, collector, negotiator, schedd, startd.

Everything lies in one directory. Run by root, jobs run as the Unix user who owns them, and root
itself can own none. Daemons can be killed, stopped and hung one by one; the master brings back what
died.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rigs.condor_install import installed

DOMAIN = "rig.local"
"""UID_DOMAIN and TRUST_DOMAIN: users are NAME@rig.local."""

_MINUTES = "180"
"""After which a pool ends by itself, should whoever started it be killed."""

_CONFIG = Path(__file__).with_name("condor.conf.template")


class Condor:
    """One pool with one large machine."""

    def __init__(self, version: str = "23.9", cpus: int = 256, extra: str = "") -> None:
        self.tree = installed(version)
        self.directory = Path(tempfile.mkdtemp(prefix="pk-condor-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.config = self.directory / "condor_config"
        self.bin = self.tree / "usr/bin"
        self.schedd = "rig@"
        self.cpus, self.extra = cpus, extra
        self.files = self.directory / "files"
        """For the backends of tests: where users' jobs have their script and output."""
        path = f"{self.tree}/usr/bin:{self.tree}/usr/sbin:{os.environ['PATH']}"
        self.environ = {**os.environ, "CONDOR_CONFIG": str(self.config), "PATH": path}
        self._master: subprocess.Popen[bytes] | None = None

    # --- the whole ---------------------------------------------------------------------------

    def start(self) -> Condor:
        for name in ("log", "spool", "execute", "lock", "run", "passwords.d", "tokens.d"):
            (self.directory / name).mkdir(mode=0o755)
        (self.directory / "passwords.d").chmod(0o700)
        for _ in range(3):  # again when somebody took the port meanwhile
            self._write()
            self._start_master()
            with contextlib.suppress(AssertionError):
                self.wait_for(self.ready, "the pool is ready", 30)
                return self
            self._end()
        raise AssertionError(f"the pool did not start: {self.log('MasterLog')[-3000:]}")

    def ready(self) -> bool:
        """Schedd and machine are known to the collector, and the schedd answers."""
        assert self._master is not None
        assert self._master.poll() is None, "the master ended"
        known = (
            self.run("condor_status", *kind, "-af", "Name", check=False).stdout.strip()
            for kind in (["-schedd"], [])
        )
        return all(known) and self.run("condor_q", check=False).returncode == 0

    def _write(self) -> None:
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            port = trial.getsockname()[1]
        text = _CONFIG.read_text().format(
            tree=self.tree,
            directory=self.directory,
            uid=os.getuid(),
            gid=os.getgid(),
            port=port,
            domain=DOMAIN,
            user=getpass.getuser(),
            schedd=self.schedd.rstrip("@"),
            cpus=self.cpus,
            memory=self.cpus * 4096,
            extra=self.extra,
        )
        self.config.write_text(text)

    def _start_master(self) -> None:
        master = f"{self.tree}/usr/sbin/condor_master"
        with (self.directory / "log" / "master.out").open("ab") as out:
            self._master = subprocess.Popen(
                [master, "-f", "-r", _MINUTES],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environ,
                cwd=self.directory,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End all jobs and daemons, and take the directory away."""
        self._end()
        shutil.rmtree(self.directory)

    def _end(self) -> None:
        """A fast shutdown; what outlives it is killed."""
        master, self._master = self._master, None
        if master is not None and master.poll() is None:
            for pid in self.daemons().values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            master.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                master.wait(10)
        deadline = time.monotonic() + 20
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if master is not None:
                master.poll()
            assert time.monotonic() < deadline, f"processes of the pool stay: {pids}"
            time.sleep(0.05)
        if master is not None:
            master.wait(10)

    # --- daemons -----------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """The pool's own processes, and those of its jobs: pid → program."""
        mark = f"CONDOR_CONFIG={self.config}".encode()
        execute = f"{self.directory}/execute/"
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "stat").read_bytes().rpartition(b") ")[2][:1] in b"ZX":
                    continue
                program = os.path.basename(os.readlink(entry / "exe"))
                environ = (entry / "environ").read_bytes().split(b"\0")
                daemon = program.startswith("condor_") and mark in environ
                if daemon or f"{os.readlink(entry / 'cwd')}/".startswith(execute):
                    found[int(entry.name)] = program
        return found

    def daemons(self) -> dict[str, int]:
        """``schedd``, ``startd``, … → pid. Not a schedd's child that answers one ``condor_q``."""
        known = ("master", "collector", "negotiator", "schedd", "startd", "shared_port")
        found = self.processes()
        programs = {
            program: pid
            for pid, program in found.items()
            if found.get(_parent(pid) or 0) != program
        }
        return {name: programs[f"condor_{name}"] for name in known if f"condor_{name}" in programs}

    def kill(self, name: str) -> None:
        """Kill one daemon; the master starts it again."""
        os.kill(self.daemons()[name], signal.SIGKILL)

    @contextlib.contextmanager
    def hanging(self, name: str = "schedd") -> Iterator[None]:
        """A daemon that takes connections and answers none."""
        pid = self.daemons()[name]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            self.wait_for(self.ready, "it is back")

    @contextlib.contextmanager
    def without(self, name: str = "schedd") -> Iterator[None]:
        """A daemon that was told to end, and is not brought back before the end."""
        old = self.daemons()[name]
        self.run("condor_off", "-fast", "-daemon", name)
        self.wait_for(lambda: self.daemons().get(name) != old, f"{name} is off")
        try:
            yield
        finally:
            self.run("condor_on", "-daemon", name)
            self.wait_for(lambda: name in self.daemons() and self.ready(), "it is back")

    @contextlib.contextmanager
    def configured(self, **more: str) -> Iterator[None]:
        """Other settings for a while, for commands and for the schedd."""
        path = self.directory / "more"
        before = {name: self.setting(name) for name in more}
        path.write_text("".join(f"{name} = {value}\n" for name, value in more.items()))
        self._reconfigure(more)
        try:
            yield
        finally:
            path.unlink()
            self._reconfigure(before)

    def _reconfigure(self, expected: dict[str, str]) -> None:
        self.run("condor_reconfig", "-daemon", "schedd")
        self.wait_for(
            lambda: all(self.setting(name) == value for name, value in expected.items()),
            "the schedd heeds its configuration",
        )

    def setting(self, name: str) -> str:
        """What the running schedd has for a setting."""
        words = ("condor_config_val", "-name", self.schedd, "-schedd", name)
        return self.run(*words, check=False).stdout.strip()

    # --- questions ---------------------------------------------------------------------------

    def run(
        self, *command: str, user: str | None = None, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """A command of the pool as this process's user, or as another."""
        if user is not None:
            account = pwd.getpwnam(user)
            groups = os.getgrouplist(user, account.pw_gid)
            options.update(user=account.pw_uid, group=account.pw_gid, extra_groups=groups)
        options = {"env": self.environ, "cwd": "/", "timeout": 60, **options}
        done = subprocess.run(command, capture_output=True, text=True, **options)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def queue(self, *attributes: str, constraint: str = "true") -> list[dict[str, Any]]:
        """These attributes of all jobs in the queue, also of those that are over."""
        names = ",".join(("ClusterId", "ProcId", "Owner", "JobStatus", *attributes))
        question = ("condor_q", "-allusers", "-json", "-attributes", names)
        text = self.run(*question, "-constraint", constraint).stdout
        return json.loads(text) if text.strip() else []

    def living(self, constraint: str = "true") -> list[dict[str, Any]]:
        """The jobs that are not over."""
        alive = "((JobStatus != 3 && JobStatus != 4) || RemoteHost =!= undefined)"
        return self.queue("JobBatchName", constraint=f"{alive} && ({constraint})")

    def token(self, user: str, *, lifetime: int = 3600) -> str:
        """A token that authenticates its bearer as a user."""
        words = ("-identity", f"{user}@{DOMAIN}", "-lifetime", str(lifetime))
        return self.run("condor_token_create", *words).stdout.strip()

    def sandboxes(self) -> dict[Path, str]:
        """The private directories of all jobs, and the ad of each."""
        found = {}
        for pattern in ("dir_*/.job.ad", "dir_*/scratch/.job.ad"):  # the latter since 25
            for ad in (self.directory / "execute").glob(pattern):
                with contextlib.suppress(OSError):
                    found[ad.parent] = ad.read_text(errors="replace")
        return found

    def sandbox(self, tag: str, index: int) -> Path | None:
        """The private directory of one job of ours, once the starter has made it."""
        for place, ad in self.sandboxes().items():
            if f'PenstockTag = "{tag}"\n' in ad and f"\nProcId = {index}\n" in ad:
                return place
        return None

    def log(self, name: str) -> str:
        path = self.directory / "log" / name
        return path.read_text(errors="replace") if path.exists() else ""

    def remove_all(self) -> None:
        """No job is left of anybody's, nor a trace of one in the queue."""
        if self.queue():
            self.run("condor_rm", "-all", check=False)
            self.wait_for(lambda: not self.living(), "no job runs")
            self.run("condor_rm", "-all", "-forcex", check=False)
            self.wait_for(lambda: not self.queue(), "the queue is empty")

    def wait_for(self, ready: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            time.sleep(0.05)


def _parent(pid: int) -> int | None:
    """Of a process; None when it is over."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    return None


def started(version: str = "23.9", **options: Any) -> Iterator[Condor]:
    """A pool as a fixture's generator."""
    pool = Condor(version, **options)
    try:
        yield pool.start()
    finally:
        pool.stop()
