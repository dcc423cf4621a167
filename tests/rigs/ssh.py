"""A real sshd on loopback with keys and configuration of its own, and a client for it.

Nothing of any user's ``~/.ssh`` is read or written. The users are temporary ones of Unix, who get a
home, a shell and perhaps a password for as long as the rig is there.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rigs.gateway import wait_until
from rigs.users import change_accounts

HOST = "login.example.org"
"""What the login node is called in the client's configuration."""

_SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host_key
PidFile none
UsePAM no
StrictModes no
AuthorizedKeysFile {directory}/authorized_keys
PasswordAuthentication yes
KbdInteractiveAuthentication no
PrintMotd no
{environ}
Match User {second_factor}
  AuthenticationMethods publickey,password
"""

_CLIENT = """
Host {host}
  HostName 127.0.0.1
  Port {port}
  IdentityFile {directory}/key-%u
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  NumberOfPasswordPrompts 1
"""


class SshServer:
    """One sshd. The last of ``users`` also needs the password; the others' keys are enough."""

    password = "correct horse"

    def __init__(self, users: Sequence[str], environ: Mapping[str, str]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pk-ssh-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.users = users
        self.environ = environ
        self.log = self.directory / "sshd.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def client_config(self) -> Path:
        return self.directory / "ssh_config"

    def home(self, user: str) -> Path:
        return self.directory / "home" / user

    def start(self) -> SshServer:
        program = shutil.which("sshd", path=f"/usr/sbin:{os.environ['PATH']}")
        assert program, "there is no sshd: install openssh-server"
        os.makedirs("/run/sshd", exist_ok=True)  # where it locks itself in
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            port = trial.getsockname()[1]
        self._keys(port)
        words = " ".join(f'"{name}={value}"' for name, value in self.environ.items())
        config = self.directory / "sshd_config"
        config.write_text(
            _SERVER.format(
                port=port,
                directory=self.directory,
                environ=f"SetEnv {words}",
                second_factor=self.users[-1],
            )
        )
        self.client_config.write_text(
            _CLIENT.format(host=HOST, port=port, directory=self.directory)
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log
            )
        wait_until(lambda: "Server listening" in self.log.read_text(), "sshd listens", 20)
        return self

    def _keys(self, port: int) -> None:
        """Host key, the users' homes and keys, and their passwords."""
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.directory}/host_key")
        public = (self.directory / "host_key.pub").read_text()
        (self.directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
        lines = []
        secret = _run("openssl", "passwd", "-6", self.password).strip()
        for user in self.users:
            account = pwd.getpwnam(user)
            key = self.directory / f"key-{user}"
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
            lines.append(key.with_suffix(".pub").read_text())
            self.home(user).mkdir(parents=True, mode=0o755)
            for path in (key, self.home(user)):
                os.chown(path, account.pw_uid, account.pw_gid)
            change_accounts(
                "usermod", "-d", str(self.home(user)), "-s", "/bin/sh", "-p", secret, user
            )
        (self.directory / "authorized_keys").write_text("".join(lines))

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
        for user in self.users:
            with contextlib.suppress(KeyError):
                pwd.getpwnam(user)
                change_accounts(
                    "usermod", "-d", f"/home/{user}", "-s", "/usr/sbin/nologin", "-p", "!", user
                )
        shutil.rmtree(self.directory)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
    return done.stdout


@contextlib.contextmanager
def ssh_server(users: Sequence[str], environ: Mapping[str, str]) -> Iterator[SshServer]:
    """A started sshd that leaves nothing behind."""
    server = SshServer(users, environ)
    try:
        yield server.start()
    finally:
        server.stop()
