"""What comes in and goes out at the edges: agents' words, credentials, launches, wake-ups, SQLite."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backends.base import Capabilities
from penstock.backends.fake import FakeBackend
from penstock.control import Control, channel
from penstock.control.credentials import new_credentials
from penstock.control.launch import Launcher
from penstock.control.queue import WakeQueue
from penstock.model.cluster import BatchRow, Cluster, ClusterSpec, GroupSpec, RowState, Status
from penstock.model.errors import Invalid
from penstock.model.ids import BatchId
from penstock.model.job import Role
from penstock.model.wire import AGENT_FILE, CONFIG_FILE, MAX_TAIL
from penstock.store import Store
from unit.control.virtual import run

# what agents say

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "protocol",
        "scheduler_address",
        "dashboard_address",
        "versions",
        "workers",
        "added",
        "removed",
        "tasks",
        "scheduler",
        "target",
        "idle",
        "cpu",
        "names",
        "error",
        "id",
        "job",
        "code",
        "reason",
        "tail",
        "memory",
        "clients",
    ]
)


@given(st.dictionaries(KEYS, anything))
def test_whatever_an_agent_says_is_understood_or_invalid(message: dict[str, Any]) -> None:
    for parse in (
        channel.parse_hello,
        channel.parse_report,
        channel.parse_retired,
        channel.parse_exit,
    ):
        try:
            parse(message)
        except Invalid as error:
            text = str(error)
            assert text.isprintable()
            assert len(text) < 300


def test_an_exit_report_is_cut_and_cleaned() -> None:
    said = channel.parse_exit(
        {"job": "w3-4", "code": 1, "reason": "a\r\nb\x1b", "tail": "x" * 50_000 + "\x07\nend"}
    )
    assert (said.sequence, said.index, said.scheduler) == (3, 4, False)
    assert said.reason == "a  b "
    assert len(said.tail) == MAX_TAIL
    assert said.tail.endswith("x \nend")


@pytest.mark.parametrize(
    ("address", "parsed"),
    [("tls://10.0.0.5:8786", ("10.0.0.5", 8786)), ("tls://[::1]:1", ("::1", 1))],
)
def test_addresses(address: str, parsed: tuple[str, int]) -> None:
    assert channel.parse_address(address) == parsed


@pytest.mark.parametrize("address", ["", "tls://", "tls://a", "tls://a:b", "tls://a:99999", "a:1"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(Invalid, match="scheduler_address must be like"):
        channel.parse_address(address)


# credentials


def test_one_certificate_is_the_whole_pki_even_under_strict_checks(tmp_path: Path) -> None:
    def context(purpose: ssl.Purpose, name: str) -> ssl.SSLContext:
        secrets = new_credentials(name)
        cert, key = tmp_path / f"{name}.crt", tmp_path / f"{name}.key"
        if not cert.exists():
            cert.write_text(secrets.cert)
            key.write_text(secrets.key)
        # As GatewaySecurity of dask_gateway makes it.
        made = ssl.create_default_context(purpose, cafile=str(cert))
        made.check_hostname = False
        made.verify_mode = ssl.CERT_REQUIRED
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        made.load_cert_chain(cert, key)
        return made

    server = context(ssl.Purpose.CLIENT_AUTH, "mine")
    handshake(context(ssl.Purpose.SERVER_AUTH, "mine"), server)
    with pytest.raises(ssl.SSLError):
        handshake(context(ssl.Purpose.SERVER_AUTH, "other"), server)


def handshake(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname="daskgateway-x")
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting


def test_credentials_differ_and_do_not_show() -> None:
    one, two = new_credentials("a" * 32), new_credentials("a" * 32)
    assert one.token != two.token
    assert one.key != two.key
    assert len(one.token) >= 64
    assert repr(one) == "Credentials<...>"


# launches


def test_a_launch_keeps_secrets_in_the_file_and_env_as_it_is() -> None:
    env = {"A": "line\nbreak", "Q": "\"'$(x)`", "Ü": "ß" * 50_000}
    group = GroupSpec(
        backend="fake",
        python="/env/bin/python",
        env=env,
        extras={"partition": "cms", "contact_host": "10.0.0.5", "lifetime": 60},
    )
    cluster = Cluster(
        "c" * 32, "al", "alice", ClusterSpec("any", group, {"cpu": group}), {}, "TOKEN", "CERT",
        "KEY", 0.0, scheduler_address="tls://10.0.0.5:1",
    )  # fmt: skip
    launcher = Launcher("0123abcd", ["https://gateway"], b"source", "CA")
    row = BatchRow(cluster.name, 3, "cpu", "fake", "alice", 7, RowState.INTENDED, 0.0)
    batch = launcher.batch(cluster, row)
    assert (batch.id, batch.owner, batch.count) == (
        BatchId("0123abcd", cluster.name, 3), "alice", 7,
    )  # fmt: skip
    assert batch.command == ("/env/bin/python", AGENT_FILE)
    assert (batch.env, batch.extras) == (env, {"partition": "cms"})
    assert batch.files[AGENT_FILE] == b"source"
    config = json.loads(batch.files[CONFIG_FILE])
    assert config["token"] == "TOKEN"
    assert (config["role"], config["scheduler_address"]) == ("worker", "tls://10.0.0.5:1")
    assert (config["contact_host"], config["lifetime"], config["ca"]) == ("10.0.0.5", 60, "CA")
    assert "TOKEN" not in repr((batch.command, batch.env, batch.extras))
    scheduler = launcher.batch(cluster, replace(row, sequence=0, group="", count=1))
    assert scheduler.role is Role.SCHEDULER
    assert json.loads(scheduler.files[CONFIG_FILE])["role"] == "scheduler"


# wake-ups


def test_a_name_waits_once_and_is_never_worked_on_twice_at_once() -> None:
    async def main() -> None:
        queue = WakeQueue()
        for name in ("a", "b", "a"):
            queue.wake(name)
        assert await queue.get() == "a"
        queue.wake("a")
        queue.wake("a")
        assert await queue.get() == "b"
        empty = asyncio.ensure_future(queue.get())
        await asyncio.sleep(1)
        assert not empty.done()
        queue.done("a")
        assert await empty == "a"
        queue.done("a")
        queue.done("b")
        await queue.idle()

    run(main())


def test_the_last_timer_of_a_name_counts() -> None:
    async def main() -> None:
        queue, loop = WakeQueue(), asyncio.get_running_loop()
        queue.wake_at("a", 50.0)
        queue.wake_at("a", 10.0)
        queue.wake_at("b", 5.0)
        queue.wake_at("b", float("inf"))
        assert await queue.get() == "a"
        assert loop.time() == pytest.approx(10.0)
        queue.wake_at("c", 20.0)
        queue.close()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(queue.get(), 100.0)

    run(main())


# the real store


class Silent:
    def send(self, message: object) -> None:
        pass

    def close(self) -> None:
        pass


async def test_a_life_and_a_restart_on_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/penstock.db"
    backend = FakeBackend(capabilities=Capabilities(visibility=0.1, period=0.1))
    group = GroupSpec(backend="fake", python="python")
    spec = ClusterSpec("any", group, {"cpu": group})
    hello = {"op": "hello", "protocol": 1, "scheduler_address": "tls://10.0.0.1:1"}

    store = await Store.open(url)
    control = Control(store, {"fake": backend}, servers=[], agent_source=b"")
    await control.start()
    cluster = await control.create(user="al", owner="alice", spec=spec, options={"n": 1})
    await control.connected(cluster.name, hello, Silent())
    await control.scale(cluster.name, 3)
    await until(lambda: len(backend.alive()) == 4)
    await control.aclose()
    await store.close()

    store = await Store.open(url)
    control = Control(store, {"fake": backend}, servers=[], agent_source=b"")
    await control.start()
    await control.ready()
    again = control.get(cluster.name)
    assert again is not None
    assert again.status is Status.RUNNING
    assert (again.spec, again.options, again.token) == (spec, {"n": 1}, cluster.token)
    assert len(backend.submitted) == 2
    await control.stop_all("drained")
    assert backend.alive() == []
    assert [event.kind for event in await control.events(cluster.name)][-1] in (
        "stopping",
        "stopped",
    )
    assert len(await store.usage()) == 2
    await control.aclose()
    await store.close()


async def until(truth: Any) -> None:
    async def look() -> None:
        while not truth():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(look(), 20.0)
