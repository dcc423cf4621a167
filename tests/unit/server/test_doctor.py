"""What the doctor says of this machine, and how."""

from __future__ import annotations

import datetime
import os
import re
import socket
import sqlite3
import sys

import pytest
from click.testing import CliRunner

from penstock.backends.insight import Finding, Verdict
from penstock.cli.doctor import show
from penstock.cli.main import main
from penstock.server import doctor
from penstock.server.state import State
from penstock.settings.load import validate
from penstock.store import Store, tables
from rigs.authority import Authority

GOOD, WARNING, BAD = Verdict.GOOD, Verdict.WARNING, Verdict.BAD


def settings_of(**sections):
    settings, problems = validate(sections)
    assert settings is not None
    assert not problems
    return settings


def told(findings) -> list[tuple[Verdict, str]]:
    return [(finding.verdict, finding.found) for finding in findings]


async def test_the_state_directory_is_looked_at_and_left_alone(tmp_path):
    state = State(tmp_path / "state")
    assert told(doctor.state_directory(state)) == [
        (GOOD, f"{state.directory} will be made at the first start")
    ]
    assert not state.directory.exists()
    state.prepare()
    assert told(doctor.state_directory(state)) == [(GOOD, str(state.directory))]
    store = await Store.open(f"sqlite:///{state.database}")
    assert told(doctor.state_directory(state))[1] == (GOOD, "in order")
    await store.close()
    before = state.database.read_bytes()
    assert told(doctor.state_directory(state))[1] == (GOOD, "in order")
    assert state.database.read_bytes() == before
    with sqlite3.connect(state.database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'old'")
    connection.close()
    assert told(doctor.state_directory(state))[1] == (
        GOOD,
        "in order (schema old, upgraded at the next start)",
    )
    assert tables.HEAD != "old"
    state.database.write_bytes(b"no database" * 1000)
    [_, (verdict, words)] = told(doctor.state_directory(state))
    assert verdict is BAD
    assert "not a database" in words


def test_another_accounts_state_directory(tmp_path, monkeypatch):
    state = State(tmp_path / "state")
    state.prepare()
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    [(verdict, words)] = told(doctor.state_directory(state))
    assert verdict is BAD
    assert "another account" in words


def test_certificates_and_their_ends(tmp_path):
    file = tmp_path / "both.pem"
    Authority(tmp_path).issue(file)
    listen = {"address": ":1", "tls_cert": str(file), "tls_key": str(file)}
    settings = settings_of(listen=[listen, {}])
    now = datetime.datetime.now(datetime.timezone.utc)
    [(verdict, words)] = told(doctor.certificates(settings, now))
    assert verdict is not BAD
    end = datetime.datetime.fromisoformat(words.split()[-1] + "T00:00:00+00:00")
    day = datetime.timedelta(days=1)
    for moment, expected in (
        (end - 60 * day, GOOD),
        (end - 7 * day, WARNING),
        (end + 2 * day, BAD),
    ):
        assert told(doctor.certificates(settings, moment))[0][0] is expected
    file.write_text("no key")
    assert told(doctor.certificates(settings, now))[0][0] is BAD


def test_passwords_in_the_clear():
    now = datetime.datetime.now(datetime.timezone.utc)
    auth = {"type": "basic", "password": "open sesame"}
    for address in ("127.0.0.1:1", "[::1]:1", "localhost:1"):
        assert not told(
            doctor.certificates(settings_of(listen=[{"address": address}], auth=auth), now)
        )
    settings = settings_of(listen=[{"address": ":1"}], auth=auth)
    assert told(doctor.certificates(settings, now)) == [
        (WARNING, "without tls_cert, passwords travel in the clear")
    ]


async def test_an_address_that_somebody_else_has(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = settings_of(listen=[{"address": address}, {"address": "127.0.0.1:0"}])
        found = [f async for f in doctor.addresses(settings, State(tmp_path))]
    assert [f.verdict for f in found] == [GOOD, BAD, GOOD]
    assert found[0].found == "does not run now"
    assert address in found[1].what


async def test_an_agent_url_must_lead_here():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    settings = settings_of(listen=[{"address": f"127.0.0.1:{port}"}], server={"agent_url": url})
    [away] = [f async for f in doctor.reach(settings)]
    assert away.verdict is BAD
    assert "cannot be reached from here" in away.found
    async with doctor.standing_in(settings):
        [here] = [f async for f in doctor.reach(settings)]
    assert here.verdict is GOOD


@pytest.mark.parametrize(
    ("urls", "warned"),
    [
        ([], True),
        (["http://localhost:8000", "http://[::1]:8000"], True),
        (["http://127.0.0.1:8000", "http://10.0.0.1:8000"], False),
    ],
)
def test_loopback_is_no_address_for_nodes(urls, warned):
    settings = settings_of(
        server={"agent_url": urls},
        backends={"local": {"type": "local"}, "slurm": {"type": "slurm"}},
    )
    assert bool(told(doctor.loopback(settings, "slurm"))) is warned
    assert not told(doctor.loopback(settings, "local"))


def test_findings_fit_into_80_columns_and_cannot_forge_lines():
    finding = Finding(BAD, "profile a", "x\x1b[2J\n" + "many words " * 30, "do this " * 20)
    for plain in (True, False):
        lines = show(finding, plain=plain).splitlines()
        assert max(map(len, lines)) <= 80
        assert "\x1b" not in "".join(lines)
        assert lines[0].startswith("  XX profile a:" if plain else "  ✗ profile a:")
    assert show(finding, plain=True).isascii()


def test_the_command_on_this_machine(tmp_path):
    """A job of the local backend reaches a server that is not there yet."""
    arguments = ["doctor", "--state", str(tmp_path / "state"), "--probe"]
    # The address of single-user mode may be taken here; a configuration says another.
    config = tmp_path / "penstock.toml"
    config.write_text(f'[[listen]]\naddress = "127.0.0.1:{_free_port()}"\n')
    found = CliRunner().invoke(main, [*arguments, "--config", str(config)])
    assert found.exit_code == 0, found.output
    assert "Backend local" in found.output
    assert f"{sys.executable} has" in re.sub(r"\s+", " ", found.output)
    assert found.output.endswith("bad\n")
    assert not (tmp_path / "state").exists()
    config.write_text('[profiles.a.scheduler]\npython = "/nowhere/python"\n')
    found = CliRunner().invoke(main, ["doctor", "--config", str(config), "--backend", "local"])
    assert found.exit_code == 1
    assert "XX Python /nowhere/python" in found.output
    found = CliRunner().invoke(main, ["doctor", "--config", str(config), "--backend", "pbs"])
    assert found.exit_code == 2
    assert "known are local" in found.output


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
