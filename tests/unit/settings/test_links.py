"""Settings about the ways between a cluster's processes, up to what agents are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.agent import base
from penstock.control.launch import Launcher
from penstock.control.quota import initial_scaling
from penstock.model.cluster import (
    BatchRow,
    Cluster,
    ClusterSpec,
    Limits,
    Links,
    RowState,
    Scaling,
)
from penstock.model.errors import Invalid, SettingsError
from penstock.model.wire import CONFIG_FILE
from penstock.settings.blueprint import Blueprint
from penstock.settings.catalogue import profile_fields
from penstock.settings.load import load

TEXT = """
[profiles.grid.scheduler]
ports = "39000 - 39099"

[profiles.grid.workers.cpu]
scheduler_route = "door"
ports = "40000-40099"
listen_host = "0.0.0.0"
contact_host = "$NODE_ADDRESS"
resources = {{ GPU = 1 }}

{more}
"""


BEHIND_TWO_PORTS = """
[server]
agent_url = "https://gateway.example.org/"

[[listen]]
scheduler_address = ":8786"
"""


def loaded(tmp_path: Path, more: str = "", text: str = TEXT):  # type: ignore[no-untyped-def]
    path = tmp_path / "penstock.toml"
    path.write_text(text.format(more=more))
    return load(path, {})


def spec(tmp_path: Path) -> ClusterSpec:
    profile = loaded(tmp_path).profiles["grid"]
    return Blueprint(profile, {}).build("grid", "alice", "/home/alice")[0]


def test_a_profile_tells_its_links(tmp_path: Path) -> None:
    made = spec(tmp_path)
    assert made.scheduler.links == Links(ports=(39000, 39099))
    assert made.workers["cpu"].links == Links("door", (40000, 40099), "$NODE_ADDRESS", "0.0.0.0")
    assert made.workers["cpu"].abstract == {"GPU": 1}


def told(tmp_path: Path, group: str, door: str | None) -> dict[str, object]:
    cluster = Cluster(
        "c" * 32, "al", "alice", spec(tmp_path), {}, "TOKEN", "CERT", "KEY", 0.0,
        scheduler_address="tls://10.0.0.5:1",
    )  # fmt: skip
    row = BatchRow(cluster.name, 1, group, "local", "alice", 1, RowState.INTENDED, 0.0)
    batch = Launcher("0123abcd", ["http://g"], b"", door=door).batch(cluster, row)
    return base.parse_config(batch.files[CONFIG_FILE].decode())


def test_workers_are_sent_to_the_door_by_name(tmp_path: Path) -> None:
    config = told(tmp_path, "cpu", "tls://gateway:8000")
    assert config["scheduler_address"] == "tls://gateway:8000"
    assert config["scheduler_sni"] == "daskgateway-" + "c" * 32
    assert (config["ports"], config["listen_host"]) == ([40000, 40099], "0.0.0.0")
    assert (config["contact_host"], config["resources"]) == ("$NODE_ADDRESS", {"GPU": 1.0})
    without = told(tmp_path, "cpu", None)
    assert (without["scheduler_address"], without["scheduler_sni"]) == ("tls://10.0.0.5:1", None)
    assert told(tmp_path, "", "tls://gateway:8000")["ports"] == [39000, 39099]


def test_a_site_option_may_still_name_the_host(tmp_path: Path) -> None:
    made = spec(tmp_path)
    group = replace(made.workers["cpu"], extras={"contact_host": "10.9.9.9"})
    cluster = Cluster(
        "c" * 32, "al", "alice", replace(made, workers={"cpu": group}), {}, "T", "C", "K", 0.0
    )
    row = BatchRow(cluster.name, 1, "cpu", "local", "alice", 1, RowState.INTENDED, 0.0)
    batch = Launcher("0123abcd", ["http://g"], b"").batch(cluster, row)
    assert json.loads(batch.files[CONFIG_FILE])["contact_host"] == "10.9.9.9"


@pytest.mark.parametrize(
    ("more", "address"),
    [
        ("", "tls://127.0.0.1:8000"),
        ('[[listen]]\naddress = "[::1]:8100"', "tls://[::1]:8100"),
        ('[server]\nagent_url = "https://gateway.example.org"', "tls://gateway.example.org:443"),
        (BEHIND_TWO_PORTS, "tls://gateway.example.org:8786"),
        ('[server]\ndoor_address = "door.example.org:9000"', "tls://door.example.org:9000"),
    ],
)
def test_where_the_door_is(tmp_path: Path, more: str, address: str) -> None:
    assert loaded(tmp_path, more).door_address == address


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('ports = "40000"', "first-last"),
        ('ports = "40000-40000"', "first-last"),
        ('ports = "80-90"', "first-last"),
        ('ports = "50000-70000"', "first-last"),
        ('contact_host = "a b"', "contact_host"),
        ('contact_host = "$(id)"', "contact_host"),
        ('scheduler_route = "tunnel"', "scheduler_route"),
        ('resources = { GPU = "many" }', "resources"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        loaded(
            tmp_path, text="[profiles.x.workers.cpu]\n" + line.replace("{", "{{").replace("}", "}}")
        )


def test_an_option_may_tell_how_many_workers_a_group_begins_with(tmp_path: Path) -> None:
    more = (
        "[profiles.grid.options]\n"
        'extra = {{ type = "integer", min = 0, max = 9, default = 3, target = "{target}" }}\n'
    )
    profile = loaded(tmp_path, more.format(target="group.cpu.count")).profiles["grid"]
    fields = profile_fields(profile)
    blueprint = Blueprint(profile, {})
    assert blueprint.apply(fields, {"extra": 4}) == []
    made = blueprint.build("grid", "alice", "/home/alice")[0]
    assert made.workers["cpu"].initial == 4
    cluster = Cluster("c" * 32, "al", "alice", made, {}, "T", "C", "K", 0.0)
    assert initial_scaling(cluster) == {"cpu": Scaling(count=4)}
    tight = replace(cluster, spec=replace(made, limits=Limits(max_workers=3)))
    with pytest.raises(Invalid, match="at most 3 workers"):
        initial_scaling(tight)
    for target in ("scheduler.count", "workers.count"):
        with pytest.raises(SettingsError, match="is not a target"):
            loaded(tmp_path, more.format(target=target))


def test_profiles_without_workers_may_define_what_workers_ask(tmp_path: Path) -> None:
    text = """
[profiles.htc]
workers = {{}}

[profiles.htc.options]
worker_cores = {{ type = "integer", min = 1, max = 4, default = 2 }}
"""
    assert loaded(tmp_path, text=text).profiles["htc"].options["worker_cores"].default == 2
    with pytest.raises(SettingsError, match="built-in option"):
        loaded(tmp_path, text=text.replace("workers = {{}}", ""))
