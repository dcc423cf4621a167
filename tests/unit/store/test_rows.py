"""What is kept about clusters, across versions of Penstock."""

from __future__ import annotations

import json

from penstock.model.cluster import Activation, Cluster, ClusterSpec, GroupSpec
from penstock.store.rows import dump_cluster, load_cluster

GROUP = GroupSpec("local", "/e/bin/python", activate=Activation("pixi", "/p/x", "/p", "default"))
CLUSTER = Cluster(
    name="a" * 32,
    user="anna",
    owner="anna",
    spec=ClusterSpec("default", GROUP, {"cpu": GROUP}),
    options={},
    token="t",
    tls_cert="",
    tls_key="",
    created_at=0.0,
)


def test_an_activation_is_kept() -> None:
    assert load_cluster(dump_cluster(CLUSTER)) == CLUSTER


def test_clusters_of_before_there_were_activations() -> None:
    row = dump_cluster(CLUSTER)
    spec = json.loads(str(row["spec"]))
    for group in (spec["scheduler"], spec["workers"]["cpu"]):
        del group["activate"]
    loaded = load_cluster({**row, "spec": json.dumps(spec)})
    assert loaded.spec.scheduler.activate is loaded.spec.workers["cpu"].activate is None
    assert loaded.spec.scheduler.python == "/e/bin/python"
