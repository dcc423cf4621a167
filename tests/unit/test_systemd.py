"""The units: what a restart must not touch, and that systemd understands them."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "packaging/systemd"
PROGRAM = "/opt/penstock/bin/penstock"


def read(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str
    parser.read_string((UNITS / name).read_text())
    return parser


def test_stopping_the_server_leaves_jobs_alone():
    service = read("penstock.service")["Service"]
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"


def test_the_server_can_start_jobs_as_their_users():
    service = read("penstock.service")["Service"]
    forbidden = {
        "NoNewPrivileges",
        "RestrictSUIDSGID",
        "CapabilityBoundingSet",
        "User",
        "DynamicUser",
    }
    forbidden |= {"PrivateTmp", "ProtectHome", "PrivateDevices", "MemoryMax", "PrivateUsers"}
    assert not forbidden & set(service)


def test_the_door_is_a_unit_of_its_own():
    door = read("penstock-door.service")
    assert door["Service"]["Restart"] == "always"
    assert door["Unit"]["StartLimitIntervalSec"] == "0"
    assert "penstock.service" not in " ".join(door["Unit"].values())
    server = read("penstock.service")["Unit"]
    for key in ("After", "Wants"):
        assert "penstock-door.service" in server[key].split()
    assert not {"Requires", "BindsTo", "PartOf"} & set(server)


def test_a_bad_configuration_never_replaces_a_running_server():
    service = read("penstock.service")["Service"]
    assert service["Restart"] == "on-failure"
    assert service["ExecStartPre"] == f"{PROGRAM} config check --config /etc/penstock/penstock.toml"


def test_an_account_of_its_own_may_use_sudo():
    """Nearly all hardening implies NoNewPrivileges for a unit that is not root's."""
    assert dict(read("penstock-account.conf")["Service"]) == {
        "User": "penstock",
        "Group": "penstock",
    }


@pytest.mark.parametrize("name", ["penstock-door.service", "penstock.service"])
def test_commands_exist(name):
    """The units call the command line with options that it has."""
    from click.testing import CliRunner

    from penstock.cli.main import main

    for key, line in read(name)["Service"].items():
        if key.startswith("ExecStart"):
            program, *arguments = line.split()
            assert program == PROGRAM
            words = [word for word in arguments if not word.startswith(("-", "/"))]
            shown = CliRunner().invoke(main, [*words, "--help"])
            assert shown.exit_code == 0, shown.output
            for option in (word for word in arguments if word.startswith("--")):
                assert option in shown.output


@pytest.mark.parametrize("server_only", [False, True])
def test_systemd_understands_them(tmp_path, server_only):
    """Only where systemd is: a container has none, and the other tests read the files themselves."""
    for unit in UNITS.glob("*.service"):
        # verify wants the program to exist
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    if server_only:
        drop_in = tmp_path / "penstock.service.d"
        drop_in.mkdir()
        shutil.copy(UNITS / "penstock-server-only.conf", drop_in)
    if shutil.which("systemd-analyze"):
        units = [str(path) for path in tmp_path.glob("*.service")]
        command = ["systemd-analyze", "verify", "--man=no", *units]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
