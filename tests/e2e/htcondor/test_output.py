"""A job's owner may edit its ad, also where its output goes. The gateway fetches that with rights that
are not the owner's, and must not write where they say.
"""

from __future__ import annotations

import pytest

from penstock.model.job import Phase
from rigs.backends import make_batch, observe_until
from rigs.condor_jobs import CondorRig


@pytest.mark.parametrize("way", ["behalf", "token"])
async def test_output_is_written_nowhere_but_in_its_directory(condor, unix_users, way):
    rig = CondorRig(condor, unix_users[0], way)
    treasure = rig.directory / "treasure"
    treasure.mkdir(mode=0o700)
    try:
        backend = rig.open(spool=True)
        await backend.submit(make_batch(rig, 3))
        jobs = await observe_until(
            backend, lambda now: [job.phase for job in now] == [Phase.RUNNING] * 3, "they run"
        )
        (treasure / "1.log").write_text("the gateway's own")
        for job in jobs:
            await rig.finish(job, 0)
        await observe_until(backend, lambda now: not any(job.alive for job in now), "they ended")
        edits = [("SUBMIT_Iwd", f'"{treasure}"'), ("TransferOutputRemaps", f'"2.log={treasure}/x"')]
        for job, (name, value) in zip(jobs[1:], edits, strict=True):
            condor.run("condor_qedit", job.native, name, value, user=rig.owner)
        texts = [await backend.logs(job, tail=100) for job in jobs]
        assert texts[0].startswith("out of ")
        assert texts[1] == ""
        found = {path.name: path.read_text() for path in treasure.iterdir()}
        assert found == {"1.log": "the gateway's own"}
    finally:
        await rig.aclose()
