"""Whether a notebook's schedd is on its own machine."""

import os

import pytest

from penstock.notebook.backends import is_here, make_backend

NAMES = {"localhost", "node7", "node7.example.org"}


@pytest.mark.parametrize(
    ("schedd", "here"),
    [
        ("", True),
        ("node7.example.org", True),
        ("Node7", True),
        ("me@node7", True),
        ("submit.example.org", False),
        ("me@submit.example.org", False),
        ("me@", False),
    ],
)
def test_a_schedd_is_here_or_elsewhere(schedd, here):
    assert is_here(schedd, NAMES) is here


NEITHER = "Neither the environment variable CONDOR_CONFIG, nor /etc/condor/ contain a condor_config source."


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ("echo submit.example.org", "htcondor schedd submit.example.org "),
        (
            f"[ $CONDOR_CONFIG ] || {{ echo '{NEITHER}' >&2; exit 1; }}; basename $CONDOR_CONFIG",
            "htcondor schedd null ",
        ),
        (f"echo '{NEITHER}' >&2; exit 1", f"htcondor schedd {os.uname().nodename} "),
        ("echo 'Not defined: SCHEDD_HOST' >&2; exit 1", f"htcondor schedd {os.uname().nodename} "),
    ],
)
async def test_htcondors_own_configuration_names_one(tmp_path, monkeypatch, said, place):
    monkeypatch.delenv("CONDOR_CONFIG", raising=False)
    command = tmp_path / "condor_config_val"
    command.write_text(f'#!/bin/sh\n[ "$*" = SCHEDD_HOST ] || exit 2\n{said}\n')
    command.chmod(0o755)
    backend, where = await make_backend({"type": "htcondor", "bin": str(tmp_path)}, "0123abcd")
    try:
        assert where.startswith(place)
        spooled = backend.capabilities.max_batch == 1000
        assert spooled is (os.uname().nodename not in place)
    finally:
        await backend.aclose()
