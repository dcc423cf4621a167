"""The Python environments that users name: activated, checked, and free of their notebook's own.

The same for jobs of Slurm and of this machine, through the unmodified client. The environments are
real ones of another Unix user's reach, with all that conda and pixi would put beside their Python.
"""

from __future__ import annotations

import os
import shutil
import sys

import cloudpickle
import pytest
from dask_gateway.client import GatewayClusterError

from rigs.depot import made
from rigs.facility import running_facility

cloudpickle.register_pickle_by_value(sys.modules[__name__])

SETTINGS = """
[backends.slurm]
type = "slurm"
config = "{slurm.config}"
bin = "{slurm.bin}"
scratch = "{slurm.directory}/scratch"
period = "500 ms"

[backends.slurm.jobs]
log_directory = "{slurm.directory}/scratch/logs-{{user}}"

[profiles.slurm]
scheduler = {{ backend = "slurm" }}

[profiles.slurm.workers.default]
backend = "slurm"
max_memory = "8 GiB"
nanny = false

[profiles.slurm.options.queue]
type = "select"
choices = {{ cms = "main", hammer = "small" }}
target = "workers.extras.partition"

[profiles.slurm.environment]
conda_dirs = ["{depot}/cms/conda/envs"]

[profiles.local.workers.default]
max_memory = "8 GiB"

[profiles.local.options.queue]
type = "select"
choices = ["cms", "hammer"]
target = "env.QUEUE"

[profiles.local.environment]
conda_dirs = ["{{home}}/.conda/envs", "{depot}/cms/conda/envs"]
keep = ["BASH_FUNC_*"]
"""


@pytest.fixture(scope="module")
def depot():
    with made() as depot:
        yield depot


@pytest.fixture(scope="module")
def facility(unix_users, slurm_cluster, depot):
    text = SETTINGS.format(slurm=slurm_cluster, depot=depot.root)
    with running_facility(unix_users, text.replace("{", "{{").replace("}", "}}")) as facility:
        yield facility


@pytest.fixture
def gateway(facility):
    with facility.client(facility.alice) as gateway:
        yield gateway


@pytest.fixture(params=["slurm", "local"])
def profile(request):
    return request.param


def look_around():
    """What a job's Python sees."""
    import sys

    return {"env": dict(os.environ), "prefix": sys.prefix, "python": shutil.which("python")}


def helped():
    """By a module on the notebook's PYTHONPATH."""
    import notebook_helper

    return notebook_helper.ANSWER


def test_a_conda_environment_and_all_of_a_notebooks_variables(
    gateway, facility, depot, profile, slurm
):
    sent = depot.notebook()
    options = {"conda_env": f"{depot.conda}/", "queue": "cms", "env": sent}
    with (
        gateway.new_cluster(profile=profile, worker_cores=1, worker_memory=4, **options) as cluster,
        cluster.get_client() as dask,
    ):
        cluster.scale(1)
        dask.wait_for_workers(1, timeout=120)
        [worker] = dask.run(look_around).values()
        for seen in (worker, dask.run_on_scheduler(look_around)):
            env = seen["env"]
            assert (seen["prefix"], seen["python"]) == (
                str(depot.conda),
                f"{depot.conda}/bin/python",
            )
            assert env["CONDA_PREFIX"] == env["CONDA_DEFAULT_ENV"] == str(depot.conda)
            assert env["OF_STATE"] == "state's"
            assert env["OF_SCRIPT"] == f"{depot.conda} + state's"
            assert env["USER"] == facility.alice
            for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "X509_USER_PROXY", "PS1", "QUOTED"):
                assert env[name] == sent[name], name
            gone = {"OLD_ROOT", "NOT_WANTED", "VIRTUAL_ENV", "PYTHONHOME", "LD_PRELOAD"}
            assert not gone & env.keys()
            assert "secret-of" not in str(env)
        assert list(dask.run(helped).values()) == [42]
        if profile == "slurm":
            assert ("main",) in slurm.squeue("Partition", states="R")
        else:
            assert worker["env"]["QUEUE"] == "cms"
            assert "modulecmd" in worker["env"]["BASH_FUNC_module%%"]
        [report] = [each for each in gateway.list_clusters() if each.name == cluster.name]
        dropped = {"JUPYTERHUB_API_TOKEN", "MY_PASSWORD", "SLURM_JOB_ID", "PYTHONHOME", "HOME"}
        assert dropped <= set(report.options["env_dropped"])
        assert report.options["conda_env"] == str(depot.conda)
        assert not dropped & report.options["env"].keys()
        shown = facility.cli(facility.alice, "show", cluster.name).stdout
        assert "Not passed on, as the profile says: " in shown
        assert "JUPYTERHUB_API_TOKEN" in shown
        assert "secret-of" not in shown


def test_a_pixi_environment_and_a_script_that_fails(gateway, facility, depot, profile):
    with (
        gateway.new_cluster(
            profile=profile, pixi_project=str(depot.project / "pixi.toml"), pixi_env="gpu"
        ) as cluster,
        cluster.get_client() as dask,
    ):
        seen = dask.run_on_scheduler(look_around)
        assert seen["prefix"] == str(depot.gpu)
        expected = {
            "PIXI_PROJECT_ROOT": str(depot.project),
            "PIXI_PROJECT_NAME": "ana",
            "PIXI_PROJECT_MANIFEST": f"{depot.project}/pixi.toml",
            "PIXI_ENVIRONMENT_NAME": "gpu",
            "PIXI_IN_SHELL": "1",
            "CONDA_PREFIX": str(depot.gpu),
            "CONDA_DEFAULT_ENV": "ana:gpu",
            "OF_SCRIPT": f"{depot.gpu} + state's",
            "ANA_SETUP": "done",
            "ANA_DATA": f"{depot.project}/data",
            "ANA_DEVICE": "gpu",
        }
        assert {name: seen["env"].get(name) for name in expected} == expected
        said = facility.cli(facility.alice, "logs", cluster.name).stdout
        assert "no-such-command" in said
        assert f"penstock: {depot.project}/setup.sh ended with code 127" in said


def test_what_is_not_there_is_refused_before_anything_is_submitted(gateway, depot, profile):
    root = depot.root
    for options, words in [
        (
            {"conda_env": f"{root}/cms"},
            f"no Python environment at '{root}/cms': {root}/cms/bin/python is missing",
        ),
        ({"conda_env": "mll"}, "no .*environment .*/cms/conda/envs/mll/bin/python"),
        ({"venv": f"{root}/venv"}, "venv: there is no Python environment at"),
        (
            {"pixi_project": str(depot.project), "pixi_env": "cuda"},
            "no environment 'cuda' in .* run 'pixi install -e cuda' .* name one of default, gpu",
        ),
        (
            {"pixi_project": str(depot.project), "conda_env": str(depot.conda)},
            "conda_env and pixi_project exclude each other",
        ),
        ({"pixi_env": "gpu"}, "pixi_env needs pixi_project"),
    ]:
        with pytest.raises(ValueError, match=words):
            gateway.new_cluster(profile=profile, **options)


def test_an_environment_without_distributed_is_told_with_what_to_do(gateway, depot, profile):
    words = f"no distributed in {depot.empty}/bin/python .*: install dask and distributed there"
    with pytest.raises(GatewayClusterError, match=words):
        gateway.new_cluster(profile=profile, venv=str(depot.empty))


def test_a_path_that_the_gateway_does_not_see_is_left_to_the_nodes(gateway):
    words = "its Python /nowhere/envs/cms/bin/python is not there on the node"
    with pytest.raises(GatewayClusterError, match=words):
        gateway.new_cluster(profile="slurm", conda_env="/nowhere/envs/cms")


def test_a_name_is_looked_for_in_all_places(gateway, depot):
    """Of two directories the gateway sees one, and there it is."""
    cluster = gateway.new_cluster(profile="local", conda_env="ml")
    with cluster, cluster.get_client() as dask:
        seen = dask.run_on_scheduler(look_around)
        assert seen["prefix"] == str(depot.named)
        assert seen["env"]["CONDA_DEFAULT_ENV"] == "ml"
