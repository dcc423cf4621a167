"""What ``penstock list`` makes of a cluster's options."""

from penstock.cli.clusters import _chosen


def test_options_in_a_line_without_values_of_variables():
    options = {
        "profile": "slurm",
        "worker_cores": 2,
        "worker_memory": 4.0,
        "gpus": 0,
        "conda_env": "",
        "pixi_env": None,
        "env": {"TOKEN": "secret", "B": ""},
        "sites": ["a", "b"],
        "env_dropped": ["HOME", "USER"],
    }
    assert _chosen(options) == (
        "profile=slurm  worker_cores=2  worker_memory=4.0  gpus=0  env=TOKEN,B  sites=a,b"
    )
