"""What keeps a gateway from starting is told in a sentence, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest

from rigs.gateway import GatewayRig, running_gateway, wait_until
from rigs.needs import need_root

TEN_MISTAKES = """
colour = "blue"

[server]
log_level = "loud"
state_dir = "relative"

[[listen]]
address = "127.0.0.1:99999"
tls_cert = "/etc/cert.pem"

[auth]
type = "basic"

[profiles.default.scheduler]
backend = "slurm"

[profiles.default.workers.default]
cores = -1
memory = "much"

[profiles.default.limits]
idle_timeout = "soon"

[profiles.default.options.tier]
type = "select"
choices = []
"""


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``penstock serve`` to its end, which must come by itself and with words."""
    done = subprocess.run(
        GatewayRig.command(None, "serve", *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "Error: " in done.stderr
    return done


@pytest.fixture
def place():
    """A directory with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="pk-", dir="/tmp") as directory:
        yield Path(directory)


def write(place: Path, text: str) -> list[str]:
    (place / "penstock.toml").write_text(text)
    return ["--config", str(place / "penstock.toml"), "--state", str(place / "state")]


def test_ten_mistakes_are_told_in_one_go(place):
    path = place / "penstock.toml"
    path.write_text(TEN_MISTAKES)
    told = serve("--config", str(path)).stderr
    for key in (
        "colour", "server.log_level", "server.state_dir", "listen", "tls_key", "auth",
        "cores", "memory", "idle_timeout", "choices",
    ):  # fmt: skip
        assert key in told, told
    assert len(told.splitlines()) >= 10
    assert not (place / "state").exists()


def test_a_backend_that_is_not_there_is_told(place):
    told = serve(*write(place, '[profiles.default.scheduler]\nbackend = "slurm"\n')).stderr
    assert "slurm" in told
    assert "local" in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server\n", "line 1"),
        ("\xff", "UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_configuration(place, text, words):
    path = place / "penstock.toml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    told = serve("--config", str(path)).stderr
    assert words in told
    assert str(path) in told


BASIC = '[auth]\ntype = "basic"\npassword = "x"\n[[listen]]\naddress = "127.0.0.1:{port}"\n'


@pytest.mark.parametrize("mode", ["single", "config"])
def test_a_port_in_use_is_told_and_leaves_no_door(place, mode):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if mode == "single":
            state = ["--state", str(place / "state"), "--dask-config", str(place / "dask.yaml")]
            told = serve("--listen", f"127.0.0.1:{port}", *state).stderr
        else:
            told = serve(*write(place, BASIC.format(port=port))).stderr
        assert f"127.0.0.1:{port} is in use by another process" in told
        assert "configure another port" in told
    assert not (place / "dask.yaml").exists()
    wait_until(lambda: not (place / "state" / "run" / "door.sock").exists(), "no door stays")


def test_a_second_listener_in_use_is_told_as_well(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = BASIC.format(port=0) + f'[[listen]]\naddress = "127.0.0.1:{port}"\n'
        assert f":{port}" in serve(*write(place, text)).stderr


def test_a_database_of_a_newer_version_is_refused_untouched(place):
    rig = GatewayRig()
    try:
        rig.start()
        rig.kill(signal.SIGTERM)
        database = rig.state / "penstock.db"
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'from-the-future'")
        connection.close()
        told = serve("--state", str(rig.state), "--dask-config", str(rig.dask_config)).stderr
        assert "newer" in told
        assert str(database) in told
        with sqlite3.connect(database) as connection:
            [(version,)] = connection.execute("SELECT version_num FROM alembic_version")
            assert version == "from-the-future"
            connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.close()
        rig.start()  # nothing was lost
    finally:
        rig.stop()


def test_a_database_that_is_none_is_refused_untouched(place):
    (place / "state").mkdir(mode=0o700)
    (place / "state" / "penstock.db").write_bytes(b"not a database at all " * 100)
    told = serve("--state", str(place / "state"), "--dask-config", str(place / "d.yaml")).stderr
    assert "penstock.db" in told
    assert (place / "state" / "penstock.db").read_bytes().startswith(b"not a database")
    subprocess.run(
        GatewayRig.command(None, "stop", "--state", str(place / "state")), capture_output=True
    )


def test_a_state_directory_of_another_user_is_refused(place):
    need_root("only root can give a directory away")
    (place / "state").mkdir(mode=0o700)
    os.chown(place / "state", 65534, 65534)
    told = serve("--state", str(place / "state"), "--dask-config", str(place / "d.yaml")).stderr
    assert f"The state directory {place}/state belongs to another user" in told


@pytest.mark.parametrize("state", ["/proc/nowhere", "/dev/null/state", "a-file"])
def test_a_state_directory_that_cannot_be_is_told(place, state):
    (place / "a-file").write_text("mine")
    told = serve("--state", str(place / state)).stderr
    assert str(place / state) in told
    assert "cannot be used" in told
    assert (place / "a-file").read_text() == "mine"


def test_a_second_server_is_refused_and_the_first_goes_on():
    with running_gateway() as rig:
        told = serve("--state", str(rig.state)).stderr
        assert f"process {rig.process.pid}) runs with the state directory {rig.state}" in told
        with rig.client() as client:
            assert client.list_clusters() == []


def test_a_users_file_with_mistakes_is_told(place):
    users = place / "users"
    users.write_text("ada:plain\nbob\nada:$apr1$x$y\n")
    text = f'[auth]\ntype = "basic"\nusers_file = "{users}"\n'
    text += '[[listen]]\naddress = "127.0.0.1:0"\n'
    told = serve(*write(place, text)).stderr
    assert all(f"line {number}" in told for number in (1, 2, 3))
    assert "plain" not in told
    wait_until(lambda: not (place / "state" / "run" / "door.sock").exists(), "no door stays")
