"""A real Dask scheduler behind the door, spoken to through dask-gateway's ``gateway://`` comm."""

from __future__ import annotations

from pathlib import Path

import dask_gateway.comm  # noqa: F401  registers gateway://
from distributed import Client, Scheduler, Worker
from distributed.security import Security

from rigs.doors import A, linked, running_door


def security(directory: Path) -> Security:
    """One certificate for all parts of a cluster, as dask-gateway makes it."""
    temporary = Security.temporary()
    files = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        files[name] = directory / f"{name}.pem"
        files[name].write_text(getattr(temporary, name))
    ca, cert, key = (str(path) for path in files.values())
    return Security(
        tls_ca_file=ca,
        tls_client_cert=cert,
        tls_client_key=key,
        tls_scheduler_cert=cert,
        tls_scheduler_key=key,
        tls_worker_cert=cert,
        tls_worker_key=key,
        require_encryption=True,
    )


async def test_a_client_and_a_worker_compute_through_the_door(tmp_path: Path) -> None:
    secure = security(tmp_path)
    with running_door(tmp_path) as door:
        async with Scheduler(
            host="127.0.0.1", port=0, protocol="tls", security=secure, dashboard=False
        ) as scheduler:
            port = int(scheduler.address.rpartition(":")[2])
            async with linked(door, a=port):
                address = f"gateway://127.0.0.1:{await door.port()}/{A}"
                async with (
                    Worker(
                        address, host="127.0.0.1", protocol="tls", security=secure,
                        nthreads=1, dashboard=False,
                    ),
                    Client(address, security=secure, asynchronous=True) as client,
                ):  # fmt: skip
                    assert await client.submit(sum, [1, 2, 3]) == 6
                    data = await client.scatter(b"x" * 5_000_000)
                    assert len(await client.gather(data)) == 5_000_000
                    info = await door.info()
                    assert info["spliced"]
