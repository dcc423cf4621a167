"""A facility in small: a gateway for many users, from a configuration as an admin would write it.

Two Unix users and an admin without an account log in by password; the jobs run in an environment
that has nothing of Penstock.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import argon2
import bcrypt
import psutil
from dask_gateway import BasicAuth, Gateway

from rigs.environments import environment
from rigs.gateway import GatewayRig

ADMIN = "carol"

CONFIG = """
[[listen]]
address = "127.0.0.1:{ports[0]}"
default_profile = "small"

[[listen]]
address = "127.0.0.1:{ports[1]}"
default_profile = "wide"

[auth]
type = "basic"
users_file = "{users_file}"
admins = ["{admin}"]
monitors = {monitors}

[auth.groups]
production = ["{bob}"]

[backends.local]
type = "local"
directory = "{jobs}"
period = "500 ms"

[profiles.small]
description = "For everybody"

[profiles.small.scheduler]
python = "{python}"

[profiles.small.workers.default]
python = "{python}"
cores = 1
max_cores = 2
memory = "1 GiB"
max_memory = "2 GiB"
nanny = false

[profiles.small.limits]
cluster_max_workers = 2

[profiles.small.options]
tier = {{ type = "select", label = "Data tier", choices = ["nano", "mini"], target = "env.TIER" }}
note = {{ type = "string", pattern = "[a-z ]*", max_length = 20, target = "env.NOTE" }}
retries = {{ type = "integer", min = 0, max = 9, default = 3, target = "env.RETRIES" }}
cut = {{ type = "float", min = 0.0, max = 1.0, default = 0.5, target = "env.CUT" }}
verbose = {{ type = "bool", default = true, target = "env.VERBOSE" }}
site = {{ type = "mapping", target = "scheduler.extras.nice" }}

[profiles.wide]
description = "Two threads a worker"

[profiles.wide.scheduler]
python = "{python}"

[profiles.wide.workers.default]
python = "{python}"
cores = 2
memory = "1 GiB"

[profiles.production]
description = "For the production group"

[profiles.production.scheduler]
python = "{python}"

[profiles.production.workers.default]
python = "{python}"

[profiles.production.allow]
groups = ["production"]
"""


@dataclass(frozen=True)
class Facility:
    """A started gateway and its people."""

    rig: GatewayRig
    alice: str
    bob: str
    addresses: tuple[str, str]
    passwords: dict[str, str] = field(default_factory=dict)
    admin: str = ADMIN
    _hashes: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def users_file(self) -> Path:
        return self.rig.directory / "users"

    @property
    def jobs(self) -> Path:
        return self.rig.directory / "jobs"

    @property
    def server(self) -> psutil.Process:
        assert self.rig.process is not None
        return psutil.Process(self.rig.process.pid)

    def client(self, user: str, address: str | None = None) -> Gateway:
        """An unmodified client of one user."""
        return Gateway(address or self.addresses[0], auth=BasicAuth(user, self.passwords[user]))

    def basic(self, user: str) -> str:
        word = f"{user}:{self.passwords[user]}".encode()
        return "Basic " + b64encode(word).decode()

    def ask(
        self,
        user: str | None,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, str, dict[str, str]]:
        """One request by a program: (status, body, headers with names in lower case)."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.addresses[0] + path, data=data, method=method)
        if user is not None:
            request.add_header("Authorization", self.basic(user))
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, answer.read().decode(errors="replace"), found

    def write_users(self) -> None:
        """The password file: bcrypt for the first, argon2 for the others."""
        hasher = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1)
        for name, password in self.passwords.items():
            if name == self.alice:
                made = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
            else:
                made = hasher.hash(password)
            self._hashes.setdefault((name, password), made)
        lines = [f"{pair[0]}:{self._hashes[pair]}\n" for pair in self.passwords.items()]
        draft = self.users_file.with_name("users.new")
        draft.write_text("".join(lines))
        draft.chmod(0o600)
        draft.replace(self.users_file)

    def secrets(self, name: str, user: str) -> dict[str, object]:
        """What the jobs of a cluster were told in confidence, read as its user."""
        found = next(self.jobs.rglob(f"*{name}-0/**/penstock.json"))
        text = subprocess.run(
            ["cat", str(found)], user=user, group=pwd.getpwnam(user).pw_gid,
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        config: dict[str, object] = json.loads(text)
        return config

    def cli(
        self, user: str, *arguments: str, password: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A ``penstock`` command of a user, whose Dask configuration names the gateway."""
        place = self.rig.directory / f"dask-of-{user}"
        place.mkdir(mode=0o700, exist_ok=True)
        auth = {"username": user, "password": password or self.passwords[user]}
        config = {"address": self.addresses[0], "auth": {"type": "basic", "kwargs": auth}}
        (place / "gateway.yaml").write_text(json.dumps({"gateway": config}))
        done = subprocess.run(
            self.rig.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            env={**self.rig.environ, "DASK_CONFIG": str(place)},
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def logs(self) -> str:
        """All that server and door have written."""
        door = self.rig.state / "door.log"
        return self.rig.log.read_text() + (door.read_text() if door.exists() else "")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]


@contextlib.contextmanager
def running_facility(
    users: tuple[str, str],
    more: str = "",
    monitors: Sequence[str] = (),
    rig: GatewayRig | None = None,
) -> Iterator[Facility]:
    """A gateway for these users, with ``more`` TOML after ``CONFIG``; nothing of it stays."""
    alice, bob = users
    ports = free_ports(2)
    rig = rig or GatewayRig()
    facility = Facility(
        rig,
        alice,
        bob,
        (f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"),
        {alice: "alices secret word", bob: "bobs secret word", ADMIN: "carols secret word"},
    )
    facility.passwords.update({name: f"secret word of {name}" for name in monitors})
    facility.write_users()
    rig.config = (CONFIG + more).format(
        ports=ports,
        users_file=facility.users_file,
        jobs=facility.jobs,
        admin=ADMIN,
        monitors=json.dumps(list(monitors)),
        bob=bob,
        python=environment("new"),
        directory=rig.directory,
    )
    try:
        rig.start()
        yield facility
    finally:
        rig.stop()


@contextlib.contextmanager
def listening_as(user: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A service of a Unix user on loopback, which counts its callers: (port, process)."""
    code = (
        "import socket, sys\n"
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "print(s.getsockname()[1], flush=True)\n"
        "while True:\n"
        "    s.accept()[0].close(); print('called', flush=True)\n"
    )
    process = subprocess.Popen(
        [str(environment("empty")), "-c", code],
        user=user,
        group=pwd.getpwnam(user).pw_gid,
        extra_groups=[],
        cwd="/",
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        os.set_blocking(process.stdout.fileno(), False)
        yield port, process
    finally:
        process.kill()
        process.communicate()
