"""A real Slurm of one's own on loopback: munged, slurmctld and several slurmd.

Everything lies in one directory: key, configuration, state, logs. Nothing in /etc is read or
written, and no systemd, cgroup or database is needed. Run by root, jobs of any Unix user are taken
and run as that user. The daemons stay in the foreground, so they are ours to stop, and to break.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rigs.slurm_install import PLUGINS
from rigs.slurm_network import bind_option, quiet_ports

MESSAGE_TIMEOUT = 3

_NO_ACCOUNTS = """\
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio"""

_CONFIG = Path(__file__).with_name("slurm.conf.template")


class Slurm:
    """One cluster; ``nodes`` slurmd with as many declared CPUs each as one says.

    ``programs``: the tree of a Slurm (see ``rigs.slurm_install``), None for the host's.
    """

    def __init__(
        self,
        nodes: int = 2,
        cpus: int = 128,
        array: int = 501,
        most_jobs: int = 20_000,
        more: str = "JobAcctGatherType=jobacct_gather/none",
        message_timeout: int = MESSAGE_TIMEOUT,
        node_timeout: int = 10,
        programs: Path | None = None,
    ) -> None:
        # Not pytest's tmp_path: Unix sockets need a short path, other users an open one.
        self.directory = Path(tempfile.mkdtemp(prefix="pk-slurm-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.config = self.directory / "slurm.conf"
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.cpus = cpus
        self.array = array
        self.most_jobs = most_jobs
        self.more = more
        self.message_timeout = message_timeout
        self.node_timeout = node_timeout
        self.programs = programs
        self.bin = Path("/usr/bin") if programs is None else programs / "usr/bin"
        path = f"{self.bin}:{os.environ['PATH']}"
        self.environ = {**os.environ, "PATH": path, "SLURM_CONF": str(self.config)}
        self.policy = _NO_ACCOUNTS
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    # --- the whole ---------------------------------------------------------------------------

    def start(self) -> Slurm:
        for name in ("munge", "state", "spool", "log", "run", "scratch"):
            (self.directory / name).mkdir(mode=0o755)
        (self.directory / "scratch").chmod(0o1777)
        if self.programs is not None:
            self.more += f"\nPluginDir={self.programs / PLUGINS}"
            (self.directory / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        self._write()
        self._start_munged()
        self.before_controller()
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        self.wait_for(lambda: set(self.node_states().values()) == {"idle"}, "all nodes are idle")
        return self

    def stop(self) -> None:
        """End all jobs and daemons, and take the directory away."""
        for name in [*self.nodes, "slurmctld"]:
            self.kill(name)
        deadline = time.monotonic() + 20
        while pids := self.strays():  # step daemons and jobs outlive slurmd
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < deadline, f"processes of jobs stay: {pids}"
            time.sleep(0.05)
        for name in reversed(list(self._daemons)):
            self.kill(name)
        shutil.rmtree(self.directory)

    def _write(self) -> None:
        key = self.directory / "munge" / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(64))
        jwt = self.directory / "munge" / "jwt.key"  # for slurmrestd, see rigs/slurm_acting.py
        jwt.touch(mode=0o600)
        jwt.write_bytes(os.urandom(32))
        port, *ports = quiet_ports(1 + len(self.nodes))
        nodes = [
            f"NodeName={node} NodeHostname={node} NodeAddr=127.0.0.1 Port={node_port} "
            f"CPUs={self.cpus} RealMemory=1048576 State=UNKNOWN"
            for node, node_port in zip(self.nodes, ports, strict=True)
        ]
        text = _CONFIG.read_text().format(
            host=socket.gethostname().split(".")[0],
            port=port,
            user=getpass.getuser(),
            bind=bind_option(),
            directory=self.directory,
            message_timeout=self.message_timeout,
            node_timeout=self.node_timeout,
            array=self.array,
            most_jobs=self.most_jobs,
            more=self.more,
            policy=self.policy,
            nodes="\n".join(nodes),
        )
        self.config.write_text(text)

    # --- daemons -----------------------------------------------------------------------------

    def before_controller(self) -> None:
        """For what has to be there first; nothing, without accounting."""

    def program(self, name: str) -> str:
        """The path of one of this Slurm's programs."""
        path = shutil.which(
            name, path=f"{self.bin.with_name('sbin')}:/usr/sbin:{self.environ['PATH']}"
        )
        assert path is not None, f"{name} is not installed"
        return path

    def _spawn(self, name: str, program: str, *arguments: str) -> None:
        path = self.program(program)
        with (self.directory / "log" / f"{name}.err").open("ab") as errors:
            self._daemons[name] = subprocess.Popen(
                [path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=self.environ,
                cwd="/",
                start_new_session=True,
            )

    def _start_munged(self) -> None:
        place = self.directory / "munge"
        force = ["--force"] if os.geteuid() == 0 else []
        self._spawn(
            "munged",
            "munged",
            "--foreground",
            *force,
            f"--key-file={place}/munge.key",
            f"--socket={place}/munge.socket",
            f"--pid-file={place}/munged.pid",
            f"--log-file={place}/munged.log",
            f"--seed-file={place}/munged.seed",
            "--origin=127.0.0.1",
        )
        self.wait_for((place / "munge.socket").exists, "munged listens")

    def start_controller(self) -> None:
        """Start slurmctld, with the state that it left."""
        self._spawn("slurmctld", "slurmctld", "-D", "-f", str(self.config))

    def start_node(self, node: str, strangers: Sequence[str] = ()) -> None:
        """Start a node's slurmd; it does not know the Unix users ``strangers``."""
        words = ["slurmd", "-D", "-N", node, "-f", str(self.config)]
        if self.programs is not None:
            words += ["-d", self.program("slurmstepd")]
        if strangers:
            known = self.directory / f"passwd-of-{node}"
            lines = Path("/etc/passwd").read_text().splitlines(keepends=True)
            known.write_text("".join(x for x in lines if x.split(":")[0] not in strangers))
            inner = f"mount --bind {known} /etc/passwd && exec {self.program('slurmd')} {' '.join(words[1:])}"
            words = ["unshare", "--mount", "--propagation=private", "sh", "-c", inner]
        self._spawn(node, *words)

    def kill(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a daemon, stopped or not, and wait until it is gone."""
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(number)
        daemon.send_signal(signal.SIGCONT)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(20)

    @contextlib.contextmanager
    def hanging_controller(self) -> Iterator[None]:
        """slurmctld takes connections and answers none."""
        self._daemons["slurmctld"].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._daemons["slurmctld"].send_signal(signal.SIGCONT)
            self.wait_for(lambda: self.run("squeue", check=False).returncode == 0, "it is back")

    @contextlib.contextmanager
    def dead_controller(self) -> Iterator[None]:
        """slurmctld was told to end."""
        self.kill("slurmctld")
        try:
            yield
        finally:
            self.start_controller()
            self.wait_for(lambda: self.run("squeue", check=False).returncode == 0, "it is back")

    @contextlib.contextmanager
    def dead_munge(self) -> Iterator[None]:
        """munged was told to end."""
        self.kill("munged")
        try:
            yield
        finally:
            self._start_munged()

    # --- questions ---------------------------------------------------------------------------

    def run(self, *command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess:
        """A client command as this process's user."""
        done = subprocess.run(
            [self.program(command[0]), *command[1:]],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
            **options,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def squeue(self, *fields: str, states: str = "all") -> list[tuple[str, ...]]:
        """These fields of all jobs, as Slurm's own users would ask."""
        form = ",".join(f"{field}:|" for field in fields)
        lines = self.run("squeue", "-h", "-r", "-t", states, "-O", form).stdout.splitlines()
        return [tuple(line.split("|")[: len(fields)]) for line in lines]

    def cancel_all(self) -> None:
        """No job is left of anybody's."""
        for (user,) in set(self.squeue("UserName", states="PD,R,S")):
            self.run("scancel", "-u", user)
        living = "PD,R,S,CF,CG"
        self.wait_for(lambda: not self.squeue("JobID", states=living), "no job is left")

    def sweep(self) -> None:
        """Take away what jobs that earlier tests killed hard have left; no job may be there."""
        for place in (self.directory / "scratch").glob("penstock-*"):
            shutil.rmtree(place)

    def node_states(self) -> dict[str, str]:
        done = self.run("sinfo", "-h", "-N", "-o", "%N|%T", check=False)
        return dict(line.split("|") for line in done.stdout.split() if "|" in line)

    def wait_for(self, ready: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            dead = [name for name, one in self._daemons.items() if one.poll() is not None]
            logs = self.directory / "log"
            words = [(logs / f"{name}.err").read_text()[-2000:] for name in dead]
            assert not dead, f"{what}: ended: {dead}\n{words}"
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            time.sleep(0.05)

    def strays(self) -> set[int]:
        """Step daemons with one of our logs open, and processes that were given our cluster."""
        logs = {str(self.directory / "log" / f"{node}.log") for node in self.nodes}
        mark = f"SLURM_CONF={self.config}".encode()
        scratch = f"{self.directory}/scratch/"
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "stat").read_bytes().rpartition(b") ")[2][:1] in b"ZX":
                    continue
                environ = (entry / "environ").read_bytes().split(b"\0")
                ours = mark in environ and any(e.startswith(b"SLURM_JOB_ID=") for e in environ)
                ours = ours or os.readlink(entry / "cwd").startswith(scratch)
                if not ours and (entry / "comm").read_text().strip() == "slurmstepd":
                    ours = bool(logs & {os.readlink(link) for link in (entry / "fd").iterdir()})
                if ours:
                    found.add(int(entry.name))
        return found
