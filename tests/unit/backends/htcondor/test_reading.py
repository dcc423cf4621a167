"""Reading output of jobs whose machines hang, where HTCondor's commands are stood in for."""

from __future__ import annotations

import asyncio
import getpass
import json

from penstock.backends.command import Commands
from penstock.backends.htcondor import HTCondorBackend
from penstock.backends.records import Record
from penstock.model.ids import BatchId, new_cluster_name, new_gateway_id
from rigs.backends import until


async def test_readers_keep_nobody_from_htcondor(tmp_path):
    me, batch = getpass.getuser(), BatchId(new_gateway_id(), new_cluster_name(), 1)
    ad = {"ClusterId": 1, "ProcId": 0, "Owner": me, "JobStatus": 2, "PenstockTag": batch.tag}
    ad |= {"JobCurrentStartDate": 1, "RemoteHost": "slot1@node", "NumShadowStarts": 1}
    place, began = tmp_path / "bin", tmp_path / "began"
    place.mkdir()
    for name, script in (
        ("condor_q", f"echo '[{json.dumps(ad)}]'"),
        ("condor_tail", f"echo >> {began}; exec sleep 1000"),
    ):
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)
    commands = Commands("HTCondor", place, timeout=600)
    notes, files = tmp_path / "notes", tmp_path / "files"
    backend = HTCondorBackend("htcondor", batch.gateway, notes, files, commands, allow_root=True)
    backend._records.reserve(batch, Record(me, str(files)))
    [job] = (await backend.observe()).jobs
    readers = [asyncio.ensure_future(backend.logs(job, tail=10)) for _ in range(40)]
    await until(lambda: began.exists() and len(began.read_text()) >= 4, "some hang")
    for _ in range(50):  # while ever more of them would hang
        assert (await asyncio.wait_for(backend.observe(), 60)).jobs == (job,)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await backend.aclose()
