"""A server behind HTTPS with a certificate of the facility's own authority."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rigs.agents import ChannelServer, Rig, keypair, own_python, until
from rigs.environments import environment


@pytest.fixture
async def rig(tmp_path: Path, credentials: tuple[str, str]) -> AsyncIterator[Rig]:
    server_cert, server_key = keypair()
    pem = tmp_path / "server.pem"
    pem.write_text(server_cert + server_key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    server = ChannelServer(tls=context)
    await server.start()
    rig = Rig(own_python(), tmp_path, server, *credentials)
    yield rig
    await rig.close()


def authority(rig: Rig) -> str:
    return (rig.directory / "server.pem").read_text().partition("-----BEGIN PRIVATE")[0]


async def test_channel_and_reports_go_to_a_trusted_server(rig: Rig) -> None:
    scheduler = await rig.scheduler(ca=authority(rig))
    await rig.server.send({"op": "close", "reason": "x"})
    assert await scheduler.wait() == 0
    rig.python = environment("empty")
    broken = await rig.start(rig.config("scheduler", 1, ca=authority(rig)))
    assert await broken.wait() == 78
    assert [report["job"] for report in rig.server.exits] == ["s1-0"]


async def test_nothing_is_said_to_a_stranger(rig: Rig) -> None:
    scheduler = await rig.start(rig.config("scheduler", 0, give_up=2))
    await until(lambda: "certificate verify failed" in scheduler.log, "the refusal")
    assert await scheduler.wait() == 0
    assert rig.server.heard == []
    assert rig.server.token not in scheduler.log
