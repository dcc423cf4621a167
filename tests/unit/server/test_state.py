"""The state directory: private, and one server at a time."""

import os
import subprocess
import sys

import pytest
import yaml

from penstock.server.embedded import (
    choose_address,
    dask_config_file,
    remove_dask_config,
    write_dask_config,
)
from penstock.server.state import State, StateError, write_private


@pytest.fixture
def state(tmp_path):
    state = State(tmp_path / "s")
    state.prepare()
    return state


def test_directories_are_private_even_when_they_were_not(tmp_path):
    (tmp_path / "s").mkdir(mode=0o755)
    state = State(tmp_path / "s")
    state.prepare()
    assert state.directory.stat().st_mode & 0o777 == 0o700
    assert state.run.stat().st_mode & 0o777 == 0o700


def test_only_one_server(state):
    assert state.running_pid() is None
    state.lock()
    other = State(state.directory)
    with pytest.raises(StateError, match=f"process {os.getpid()}\\) runs with the state directory"):
        other.lock()
    assert other.running_pid() == os.getpid()
    state.unlock()
    other.lock()
    other.unlock()


def test_a_killed_server_leaves_no_lock(state):
    code = (
        "import sys, os, signal; from pathlib import Path; from penstock.server.state import State;"
        "s = State(Path(sys.argv[1])); s.lock(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(state.directory)], check=False)
    assert state.running_pid() is None
    state.lock()
    state.unlock()


def test_a_path_too_long_for_sockets_is_told(tmp_path):
    with pytest.raises(StateError, match="too long for Unix sockets"):
        State(tmp_path / ("d" * 100)).prepare()


def test_an_unusable_place_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be used: Not a directory"):
        State(tmp_path / "file" / "s").prepare()


def test_the_password_is_made_once_and_private(state):
    word = state.password()
    assert len(word) >= 24
    assert state.password() == word
    assert state.password_file.stat().st_mode & 0o777 == 0o600


def test_private_files_are_whole_or_absent(tmp_path):
    target = tmp_path / "dir"
    target.mkdir()
    with pytest.raises(OSError, match="director"):
        write_private(target, "x")
    assert list(tmp_path.iterdir()) == [target]


def test_the_dask_configuration_is_what_dask_reads(tmp_path):
    path = tmp_path / "deep" / "dask" / "penstock.yaml"
    write_dask_config(path, address="http://127.0.0.1:1", user='a"b\\', password="p'w")
    assert yaml.safe_load(path.read_text()) == {
        "gateway": {
            "address": "http://127.0.0.1:1",
            "auth": {"type": "basic", "kwargs": {"username": 'a"b\\', "password": "p'w"}},
        }
    }
    assert path.stat().st_mode & 0o777 == 0o600
    remove_dask_config(path)
    assert not path.exists()


def test_a_file_of_somebody_elses_making_is_not_removed(tmp_path):
    path = tmp_path / "penstock.yaml"
    path.write_text("gateway: {}\n")
    remove_dask_config(path)
    assert path.exists()


def test_dasks_own_variable_is_heeded(tmp_path):
    assert dask_config_file({"DASK_CONFIG": str(tmp_path)}) == tmp_path / "penstock.yaml"
    assert dask_config_file({"DASK_CONFIG": "/x/y.yaml"}).name == "penstock.yaml"
    assert ".config/dask" in str(dask_config_file({}))


def test_the_address_stays_the_same_over_restarts(state):
    first = choose_address(state, door_is_there=False)
    assert choose_address(state, door_is_there=False) == first
    import socket

    with socket.socket() as taken:
        # As the door does: ends of earlier connections may still linger at the port.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(first)
        taken.listen()
        assert choose_address(state, door_is_there=True) == first
        assert choose_address(state, door_is_there=False) != first
