"""``setup_condor`` against a real sshd, with a real ``condor_token_fetch`` from a real pool."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.client.condor_files import BEGIN, read_token
from rigs.ssh import HOST, ssh_server

RUNNER = str(Path(__file__).parents[2] / "rigs" / "as_user.py")


@pytest.fixture(scope="module")
def login_node(condor_pool, unix_users):
    """A node where condor_token_fetch works, and where the second user needs two factors."""
    environ = {"CONDOR_CONFIG": str(condor_pool.config), "PATH": f"{condor_pool.bin}:/usr/bin:/bin"}
    with ssh_server(unix_users, environ) as server:
        yield server


def options(condor, server, **more):
    """What a site would have in its configuration."""
    port = next(
        line.split("=")[1].strip()
        for line in condor.config.read_text().splitlines()
        if line.startswith("SHARED_PORT_PORT")
    )
    given = {
        "login-host": HOST,
        "schedd-host": condor.schedd,
        "collector-host": f"127.0.0.1:{port}",
        "ssh": f"ssh -F {server.client_config}",
        "lifetime": "3600",
        **more,
    }
    return [f"--{name}={value}" for name, value in given.items()]


def environment(condor, **more):
    """A notebook's: HTCondor's tools, but no configuration of any pool."""
    clean = {k: v for k, v in os.environ.items() if k != "CONDOR_CONFIG"}
    return {**clean, "PATH": f"{condor.bin}:{os.environ['PATH']}", **more}


def many(condor, user, *calls, **environ):
    """Several calls without a terminal: [(exit code, output), …]."""
    done = subprocess.run(
        [sys.executable, RUNNER, user, "many"],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(condor, **environ),
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(answer) for answer in json.loads(done.stdout)]


def at_terminal(condor, user, arguments, password):
    """One call at a terminal, where ``password`` is typed when somebody asks for one."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, RUNNER, user, "terminal", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(condor),
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            shown += data
            if not data:
                break
            if shown.endswith(b"password: "):  # ssh has turned the echo off by then
                os.write(ours, password.encode() + b"\n")
        os.close(ours)
        process.wait(30)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def mode(path):
    return path.stat().st_mode & 0o777


def test_a_password_and_a_second_factor_open_the_pool(condor, login_node, unix_users):
    user = unix_users[1]
    place = login_node.home(user) / ".condor"
    arguments = options(condor, login_node)
    dry = many(condor, user, [*arguments, "--dry-run"])[0]
    assert dry[0] == 0, dry[1]
    assert "Would run: ssh -F" in dry[1]
    assert "+SCHEDD_HOST = rig@" in dry[1]
    assert not place.exists()

    place.mkdir(mode=0o755)
    kept = login_node.home(user) / "kept"
    kept.mkdir()
    (kept / "condor").write_text("# mine\nSCHEDD_HOST = elsewhere\nMY = 1\n")
    (place / "user_config").symlink_to(kept / "condor")
    for path in (place, kept, kept / "condor"):
        os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    code, shown = at_terminal(condor, user, arguments, login_node.password)
    assert code == 0, shown
    token_file = place / "tokens.d" / HOST
    token = token_file.read_text().strip()
    assert read_token(token).identity == f"{user}@rig.local"
    assert (mode(token_file), mode(token_file.parent)) == (0o600, 0o700)
    assert token_file.owner() == user
    assert (place / "user_config").is_symlink()
    text = (place / "user_config").read_text()
    assert text.startswith(f"# mine\nSCHEDD_HOST = elsewhere\nMY = 1\n\n{BEGIN}\n")
    assert "line 2: SCHEDD_HOST = elsewhere" in shown
    assert "+SCHEDD_HOST = rig@" in shown
    assert "export CONDOR_CONFIG=/dev/null" in shown
    assert f"Total for {user}: 0 jobs" in shown  # the queue, with the token alone
    assert token not in shown
    assert login_node.password not in shown

    # Again: the token is a new one, the configuration says it all.
    code, shown = at_terminal(condor, user, arguments, login_node.password)
    assert code == 0, shown
    assert "It takes the place of the token of" in shown
    assert "says it all already" in shown
    assert (place / "user_config").read_text() == text
    assert token_file.read_text().strip() != token
    assert sorted(path.name for path in token_file.parent.iterdir()) == [HOST]


def test_what_goes_wrong_is_said_and_leaves_nothing(condor, login_node, unix_users):
    user = unix_users[0]
    place = login_node.home(user) / ".condor"
    strangers = login_node.directory / "ssh_config_strangers"
    strangers.write_text(
        login_node.client_config.read_text().replace("known_hosts", "no_known_hosts")
    )
    closed = login_node.directory / "ssh_config_closed"
    closed.write_text(login_node.client_config.read_text().replace("Port ", "Port 1 #"))
    keyless = login_node.directory / "ssh_config_keyless"
    keyless.write_text(login_node.client_config.read_text().replace("key-%u", "no-key"))
    cases = {
        "was not accepted: compare its fingerprint": {"ssh": f"ssh -F {strangers}"},
        "ssh did not reach login.example.org": {"ssh": f"ssh -F {closed}"},
        "refused the login": {"ssh": f"ssh -F {keyless} -o BatchMode=yes"},
        "There is no /nowhere/ssh here": {"ssh": "/nowhere/ssh"},
        "You are not in the group nobodies": {
            "require-group": "nobodies",
            "group-help": "write to support@example.org",
        },
        "There is no /nowhere/fetch on": {"fetch-command": "/nowhere/fetch"},
        "gave no token": {"schedd-host": "no-such-schedd@"},
        "The login host cannot be": {"login-host": "-oProxyCommand=id"},
    }
    answers = many(condor, user, *(options(condor, login_node, **case) for case in cases.values()))
    for words, (code, output) in zip(cases, answers, strict=True):
        assert code == 1, (words, output)
        assert words in output, (words, output)
        assert "Traceback" not in output
    told = answers[list(cases).index("You are not in the group nobodies")][1]
    assert f"(you are in: {user})" in told
    assert "write to support@example.org" in told
    assert not place.exists()
    (code, output), (missing, which) = (
        many(condor, user, options(condor, login_node), PATH="/usr/bin:/bin")[0],
        many(condor, user, [])[0],
    )
    assert (code, missing) == (1, 1)
    assert "There are no HTCondor tools here" in output
    assert "Which login node?" in which


def test_a_site_says_it_all_in_an_env_file(condor, login_node, unix_users):
    user = unix_users[0]
    home = login_node.home(user)
    lines = []
    for option in options(condor, login_node, **{"require-group": user}):
        name, _, value = option[2:].partition("=")
        name = name.replace("-", "_").upper()
        lines.append(f'DASK_PENSTOCK__SETUP_CONDOR__{name}="{value}"\n')
    (home / ".env").write_text("".join(lines))
    code, shown = at_terminal(condor, user, [], "")
    assert code == 0, shown
    assert f"Total for {user}: 0 jobs" in shown
    old = home / ".condor" / "tokens.d" / HOST
    old.write_text("something else\n")
    code, shown = at_terminal(condor, user, [], "")
    assert code == 1
    assert "holds no token; choose another --token-name" in shown
    assert old.read_text() == "something else\n"
