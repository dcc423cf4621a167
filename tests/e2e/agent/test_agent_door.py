"""Workers whose every connection to their scheduler must say its name, in older environments too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from penstock.door.clienthello import Hello, NeedMore, parse
from rigs.agents import Rig, line

NAME = "daskgateway-" + "c" * 32

NESTED = """
from distributed import get_client, worker_client

def nested(n):
    with worker_client() as inner:
        found = sum(inner.gather(inner.map(abs, range(n), pure=False)))
        return found + get_client().submit(abs, -1, pure=False).result()

print(client.submit(nested, 5, pure=False, resources={"GPU": 1}).result(timeout=60))
[address] = client.nthreads()
print(address, client.scheduler_info()["workers"][address]["nanny"])
"""


class Doorkeeper:
    """Lets TLS connections pass to one address that say a name, and no others."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition("://")[2].rpartition(":")
        self.target = host, int(port)
        self.passed = 0
        self.refused: list[object] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b""
        while isinstance(said := parse(head), NeedMore):
            more = await reader.read(4096)
            if not more:
                writer.close()
                return
            head += more
        if not isinstance(said, Hello) or said.name != NAME:
            self.refused.append(said)
            writer.close()
            return
        self.passed += 1
        other_reader, other_writer = await asyncio.open_connection(*self.target)
        other_writer.write(head)
        await asyncio.gather(pour(reader, other_writer), pour(other_reader, writer))


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def doorkeeper(target: object) -> AsyncIterator[tuple[Doorkeeper, str]]:
    keeper = Doorkeeper(str(target))
    server = await asyncio.start_server(keeper.serve, "127.0.0.1", 0)
    async with server:
        yield keeper, f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("python", ["old"], indirect=True)
async def test_old_versions_say_the_name_everywhere(rig: Rig) -> None:
    await rig.scheduler()
    target = rig.server.said("hello")[-1]["scheduler_address"]
    async with doorkeeper(target) as (keeper, address):
        ports = [31200, 31299]
        options = {"scheduler_address": address, "scheduler_sni": NAME, "nanny": True}
        job = await rig.worker(**options, ports=ports, resources={"GPU": 1})
        async with rig.client(NESTED) as client:
            assert await line(client) == "11"
            for place in (await line(client)).split():
                assert ports[0] <= int(place.rpartition(":")[2]) <= ports[1]
        assert keeper.refused == []
        assert keeper.passed >= 3  # the nanny's, its worker's, the tasks' client's
        job.process.terminate()
        assert await job.wait() == 0
