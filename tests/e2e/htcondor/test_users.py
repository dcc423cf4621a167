"""Two users of one HTCondor gateway reach nothing of each other's, and the pool shows no secret."""

from __future__ import annotations

import json
import subprocess

from rigs.gateway import wait_until


def test_users_do_not_reach_each_others_jobs(facility, condor):
    with (
        facility.client(facility.alice) as hers,
        facility.client(facility.bob) as his,
        hers.new_cluster(profile="htcondor") as one,
        his.new_cluster(profile="htcondor") as other,
    ):
        owners = {ad["JobBatchName"]: (ad["Owner"], ad) for ad in condor.living()}
        assert owners[f"dask-scheduler-{one.name}"][0] == facility.alice
        assert owners[f"dask-scheduler-{other.name}"][0] == facility.bob
        ad = owners[f"dask-scheduler-{one.name}"][1]
        native = f"{ad['ClusterId']}.{ad['ProcId']}"
        done = condor.run("condor_rm", native, user=facility.bob, check=False)
        assert "Permission denied" in done.stdout + done.stderr
        tail = condor.run("condor_tail", native, user=facility.bob, check=False)
        assert tail.returncode != 0
        sandbox = next(place for place, ad in condor.sandboxes().items() if one.name in ad)
        config = sandbox / "penstock" / "penstock.json"
        assert config.stat().st_mode & 0o777 == 0o600
        token = json.loads(config.read_text())["token"]
        script = condor.files / facility.alice
        for path in (sandbox, script):
            denied = condor.run("ls", str(path), user=facility.bob, check=False)
            assert "Permission denied" in denied.stderr
        shown = condor.run("condor_q", "-allusers", "-long", user=facility.bob).stdout
        lines = subprocess.run(["ps", "axeww"], capture_output=True, text=True).stdout
        assert one.name in shown
        assert token not in shown + lines
        assert "BEGIN" not in shown
        status, _, _ = facility.ask(facility.bob, "GET", f"/api/v1/clusters/{one.name}")
        assert status == 404
    wait_until(lambda: not condor.living(), "no job is left")
