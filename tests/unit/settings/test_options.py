"""Options: what the unmodified client shows and sends, and what becomes of it."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dask_gateway.options import Options
from pydantic import ValidationError

from penstock.auth import Identity, User
from penstock.environment.choice import Found, Place, Seen
from penstock.model.cluster import Activation
from penstock.model.errors import Invalid
from penstock.settings import Settings
from penstock.settings.load import tomllib
from penstock.settings.resolve import environments_asked, option_specs, resolve

TEXT = """
[[listen]]
address = "127.0.0.1:8000"

[[listen]]
address = "127.0.0.1:8001"
default_profile = "big"

[profiles.small.workers.cpu]
cores = 1
max_cores = 4
memory = "2GiB"
max_memory = "8GiB"
env = { SITE = "small" }
python = "/opt/site/bin/python"

[profiles.small.options.queue]
type = "select"
label = "Queue"
choices = { short = "q1", long = "q2" }

[profiles.small.options.gpus]
type = "integer"
min = 0
max = 2
target = "workers.gpus"

[profiles.small.options.greeting]
type = "string"
pattern = "[A-Za-z ]*"
max_length = 10
target = "env.GREETING"

[profiles.small.options.idle]
type = "float"
default = 600
min = 60
target = "limits.idle_timeout"

[profiles.small.options.fast]
type = "bool"
target = "scheduler.extras.fast"

[profiles.small.options.more]
type = "mapping"

[profiles.small.limits]
idle_timeout = "1h"

[profiles.big.workers.a]
cores = 8
min_cores = 4
max_cores = 16
memory = "32GiB"
min_memory = "16GiB"
max_memory = "64GiB"
threads = 2
nanny = false

[profiles.big.workers.b]
gpus = 1

[profiles.half.workers.a]
cores = 0.5

[profiles.outside]
workers = {}

[profiles.secret.allow]
users = ["zoe"]
groups = ["staff"]

[users]
min_uid = 500
"""

SETTINGS = Settings.model_validate(tomllib.loads(TEXT))
ANNA = User("anna")
ME = Identity("anna", 4_000_000, 100, (100,), "/home/anna")


def make(options: dict[str, object], *, listener: int = 0, user: User = ANNA, **more: Any):
    return resolve(SETTINGS, listener, options, user, ME, **more)


def wrong(options: dict[str, object], **more: Any) -> str:
    with pytest.raises(Invalid) as caught:
        make(options, **more)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 2000
    return text


def client_options(listener: int = 0, user: User = ANNA) -> Options:
    """What the unmodified client makes of our JSON."""
    return Options._from_spec(json.loads(json.dumps(option_specs(SETTINGS, listener, user))))


# What the client sees


def test_the_client_reads_the_form() -> None:
    options = client_options()
    assert dict(options) == {
        "profile": "small",
        "worker_cores": 1,
        "worker_memory": 2.0,
        "env": {},
        "venv": "",
        "conda_env": "",
        "pixi_project": "",
        "pixi_env": "",
        "queue": "short",
        "gpus": 0,
        "greeting": "",
        "idle": 600.0,
        "fast": False,
        "more": {},
    }
    assert options._fields["profile"].options == ("small", "big", "half", "outside")
    assert options._fields["queue"].label == "Queue"
    assert options._fields["worker_cores"].max == 16
    options.worker_cores = 16
    options.worker_memory = 3
    for name, value in (("worker_cores", 17), ("worker_cores", "4"), ("profile", "secret")):
        with pytest.raises((TypeError, ValueError)):
            options[name] = value


def test_the_client_makes_its_widget(recwarn: pytest.WarningsRecorder) -> None:
    assert client_options()._widget() is not None
    recwarn.clear()


def test_every_listener_has_its_default_profile() -> None:
    options = client_options(listener=1)
    assert (options.profile, options.worker_cores, options.worker_memory) == ("big", 8, 32.0)
    assert make({}, listener=1)[0].profile == "big"
    assert make({}, listener=0)[0].profile == "small"


@pytest.mark.parametrize("user", [User("zoe"), User("x", frozenset({"staff"}))])
def test_profiles_are_for_whom_they_are(user: User) -> None:
    assert "secret" in client_options(user=user)._fields["profile"].options
    assert make({"profile": "secret"}, user=user)[0].profile == "secret"


def test_a_user_without_any_profile() -> None:
    settings = Settings.model_validate({"profiles": {"p": {"allow": {"users": ["zoe"]}}}})
    for call in (
        lambda: option_specs(settings, 0, ANNA),
        lambda: resolve(settings, 0, {}, ANNA, ME),
    ):
        with pytest.raises(Invalid, match="may use none of this gateway's profiles"):
            call()


# What becomes of it


def test_defaults() -> None:
    spec, shown = make({})
    worker = spec.workers["cpu"]
    assert (worker.resources.cores, worker.nthreads, worker.memory) == (1.0, 1, 2 * 2**30)
    assert (worker.python, worker.env["SITE"]) == ("/opt/site/bin/python", "small")
    assert worker.extras == {"queue": "q1"}
    assert worker.env["HOME"] == "/home/anna"
    assert worker.env["PATH"].startswith("/opt/site/bin:")
    assert spec.scheduler.extras == {"fast": False}
    assert not spec.scheduler.nanny
    assert spec.limits.idle_timeout == 600.0
    assert shown["queue"] == "short"
    assert "env_dropped" not in shown


def test_everything_chosen() -> None:
    spec, shown = make(
        {
            "worker_cores": 3,
            "worker_memory": "4 GB",
            "env": {"A": "ß\n'\"$(x)", "JPY_PARENT_PID": "1"},
            "queue": "long",
            "gpus": 2,
            "greeting": "Guten Tag",
            "idle": 120,
            "fast": True,
            "more": {"x": [1, None]},
        }
    )
    worker = spec.workers["cpu"]
    assert (worker.resources.cores, worker.nthreads, worker.resources.gpus) == (3.0, 3, 2)
    assert worker.memory == worker.resources.memory == 4_000_000_000
    assert worker.env["A"] == "ß\n'\"$(x)"
    assert worker.env["GREETING"] == spec.scheduler.env["GREETING"] == "Guten Tag"
    assert worker.extras == {"queue": "q2", "more": {"x": [1, None]}}
    assert spec.scheduler.extras == {"fast": True}
    assert spec.limits.idle_timeout == 120.0
    assert shown["env"] == {"A": "ß\n'\"$(x)"}
    assert shown["env_dropped"] == ["JPY_PARENT_PID"]
    json.dumps(shown, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (4, 4 * 2**30),
        (4.0, 4 * 2**30),
        (0.5, 2**29),
        ("4 GB", 4 * 10**9),
        ("4GiB", 4 * 2**30),
        ("4", 4 * 2**30),
        ("8GiB", 8 * 2**30),
        ("2500 MB", 2500 * 10**6),
    ],
)
def test_memory_in_all_its_forms(value: object, size: int) -> None:
    spec, shown = make({"worker_memory": value})
    assert spec.workers["cpu"].memory == size
    assert shown["worker_memory"] == pytest.approx(size / 2**30)


def test_the_second_group_keeps_its_own_size() -> None:
    spec, _ = make({"profile": "big", "worker_cores": 16})
    assert (spec.workers["a"].resources.cores, spec.workers["b"].resources.cores) == (16.0, 1.0)
    assert (spec.workers["a"].nthreads, spec.workers["a"].nanny) == (2, False)
    assert spec.workers["b"].resources.gpus == 1
    assert spec.default_group == "a"


def test_the_options_object_of_another_profile() -> None:
    """Its untouched fields hold the default profile's defaults, which must not get in the way."""
    options = client_options()
    options.profile = "big"
    spec, shown = make(dict(options))
    assert spec.workers["a"].resources.cores == 8.0
    assert "queue" not in shown
    options.worker_cores = 5
    assert make(dict(options))[0].workers["a"].resources.cores == 5.0
    options.queue = "long"
    assert "queue is no option of profile 'big'" in wrong(dict(options))
    # The same number as a keyword is meant as it stands.
    assert "worker_cores must be a whole number from 4 to 16, not 1" in wrong(
        {"profile": "big", "worker_cores": 1}
    )


def test_fractions_of_a_core() -> None:
    spec, shown = make({"profile": "half"})
    assert (spec.workers["a"].resources.cores, spec.workers["a"].nthreads) == (0.5, 1)
    assert shown["worker_cores"] == 0.5


def test_external_workers() -> None:
    spec, shown = make({"profile": "outside"})
    assert spec.workers == {}
    assert "worker_cores" not in shown
    assert "no option of profile 'outside'" in wrong({"profile": "outside", "worker_cores": 2})


def test_venv(tmp_path: Path) -> None:
    spec, shown = make({"venv": "/data/my env/"})
    assert shown["venv"] == "/data/my env"
    for group in (spec.scheduler, *spec.workers.values()):
        assert group.python == "/data/my env/bin/python"
        assert group.env["VIRTUAL_ENV"] == "/data/my env"
        assert group.env["PATH"].startswith("/data/my env/bin:")


def test_every_kind_of_environment() -> None:
    cases = [
        ({"conda_env": "/depot/envs/cms/"}, Activation("conda", "/depot/envs/cms")),
        ({"conda_env": "/depot/envs/cms/bin/python3.11"}, Activation("conda", "/depot/envs/cms")),
        (
            {"pixi_project": "/depot/ana/"},
            Activation("pixi", "/depot/ana/.pixi/envs/default", "/depot/ana", "default"),
        ),
        (
            {"pixi_project": "/d/ana/pyproject.toml", "pixi_env": "gpu"},
            Activation("pixi", "/d/ana/.pixi/envs/gpu", "/d/ana/pyproject.toml", "gpu"),
        ),
        ({"venv": "/home/anna/v", "conda_env": ""}, Activation("venv", "/home/anna/v")),
    ]
    for options, activation in cases:
        spec, shown = make(options)
        for group in (spec.scheduler, *spec.workers.values()):
            assert group.activate == activation
            assert group.python == f"{activation.prefix}/bin/python"
            assert group.env["PATH"].startswith(f"{activation.prefix}/bin:")
            assert group.env.get("VIRTUAL_ENV") == (
                activation.prefix if activation.kind == "venv" else None
            )
        json.dumps(shown)
    assert make({})[0].scheduler.activate is None


ENVIRONMENTS = """
[profiles.pixi.scheduler]
pixi_project = "/site/ana/pixi.toml"

[profiles.pixi.workers.cpu]
conda_env = "/site/conda/bin/python"

[profiles.pixi.workers.gpu]
pixi_project = "/site/ana"
pixi_env = "gpu"

[profiles.pixi.environment]
conda_dirs = ["{home}/.conda/envs/", "/site/envs"]

[backends.local]
type = "local"

[backends.far]
type = "slurm"

[profiles.far]
scheduler = { backend = "far" }
workers = { cpu = { backend = "far" } }
environment = { conda_dirs = ["{home}/envs", "/site/envs"] }

[profiles.unchecked]
environment = { check = false, conda_dirs = ["/site/envs"] }
"""
SITE = Settings.model_validate(tomllib.loads(ENVIRONMENTS))


def at_site(profile: str, seen: dict[str, Seen] | None = None, **options: object):
    places = environments_asked(SITE, 0, {"profile": profile, **options}, ANNA, ME)
    found = {
        place: Found((seen or {})[place.prefix]) for place in places if place.prefix in (seen or {})
    }
    return resolve(SITE, 0, {"profile": profile, **options}, ANNA, ME, seen=found)[0]


def test_a_profiles_own_environments() -> None:
    spec = at_site("pixi")
    assert spec.scheduler.activate == Activation(
        "pixi", "/site/ana/.pixi/envs/default", "/site/ana/pixi.toml", "default"
    )
    assert spec.workers["cpu"].activate == Activation("conda", "/site/conda")
    assert spec.workers["gpu"].python == "/site/ana/.pixi/envs/gpu/bin/python"
    spec = at_site("pixi", pixi_env="test")
    assert spec.scheduler.activate.environment == spec.workers["gpu"].activate.environment == "test"
    assert spec.workers["cpu"].activate == Activation("conda", "/site/conda")
    assert at_site("pixi", venv="/v").workers["cpu"].activate == Activation("venv", "/v")


@pytest.mark.parametrize(
    "text",
    [
        'conda_env = "/a"\nvenv = "/b"',
        'pixi_project = "/a"\nvenv = "/b"',
        'pixi_env = "gpu"',
        'pixi_project = "/a"\npixi_env = "../x"',
        'conda_env = "name"',
    ],
)
def test_profiles_that_contradict_themselves(text: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(tomllib.loads(f"[profiles.x.scheduler]\n{text}"))


def test_conda_environments_by_name() -> None:
    home, site = "/home/anna/.conda/envs/cms", "/site/envs/cms"
    there = at_site("pixi", {home: Seen.UNSEEN, site: Seen.THERE}, conda_env="cms")
    assert there.scheduler.activate == Activation("conda", site)
    both = at_site("pixi", {home: Seen.THERE, site: Seen.THERE}, conda_env="cms")
    assert both.scheduler.activate == Activation("conda", home)
    # The scheduler and workers of this profile run elsewhere, where more may be seen.
    home = "/home/anna/envs/cms"
    only = at_site("far", {home: Seen.UNSEEN, site: Seen.ABSENT}, conda_env="cms")
    assert only.scheduler.activate == Activation("conda", home)
    with pytest.raises(Invalid, match="cannot see which of /home/anna/envs/cms/bin/python, /site"):
        at_site("far", {home: Seen.UNSEEN}, conda_env="cms")
    with pytest.raises(Invalid, match="there is no environment 'cms': looked for /home/anna/envs"):
        at_site("far", {home: Seen.ABSENT, site: Seen.BARE}, conda_env="cms")
    assert at_site("unchecked", conda_env="x").scheduler.python == "/site/envs/x/bin/python"


def test_what_is_certainly_not_there_is_refused() -> None:
    words = "conda_env: there is no Python environment at '/d/x': /d/x/bin/python is missing"
    for profile, seen, refused in [
        ("far", Seen.BARE, True),
        ("far", Seen.ABSENT, True),
        ("far", Seen.UNSEEN, False),
        ("far", Seen.UNKNOWN, False),
        ("far", Seen.CLOSED, False),
        ("far", Seen.THERE, False),
        ("pixi", Seen.UNSEEN, True),
        ("pixi", Seen.UNKNOWN, False),
        ("unchecked", Seen.BARE, False),
    ]:
        with pytest.raises(Invalid, match=words) if refused else nullcontext():
            at_site(profile, {"/d/x": seen}, conda_env="/d/x")
    with pytest.raises(Invalid, match=r"permission denied: .* cannot see /d/x/bin/python"):
        at_site("pixi", {"/d/x": Seen.CLOSED}, conda_env="/d/x")
    pixi = "/d/x/.pixi/envs/gpu"
    with pytest.raises(Invalid, match=r"environment 'gpu' in '/d/x': .* run 'pixi install -e gpu'"):
        at_site("far", {pixi: Seen.BARE}, pixi_project="/d/x", pixi_env="gpu")


def test_nothing_is_looked_at_without_need() -> None:
    for options in (
        {},
        {"conda_env": "", "pixi_env": "x"},
        {"conda_env": "/a", "venv": "/b"},
        {"conda_env": "relative/x"},
        {"conda_env": 7},
        {"profile": "nowhere", "conda_env": ["/a"]},
        {"profile": "unchecked", "conda_env": "/a"},
    ):
        assert environments_asked(SITE, 0, options, ANNA, ME) == ()
    [place] = environments_asked(SITE, 0, {"pixi_project": "/a/pixi.toml"}, ANNA, ME)
    assert place == Place("/a", "/a/.pixi/envs/default")


def test_100_kilobytes_arrive() -> None:
    text = "→\n" * 25_000 + "$" * 100
    spec, _ = make({"env": {"BIG": text}})
    assert spec.workers["cpu"].env["BIG"] == text


# What is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"worker_cores": "four"}, "worker_cores must be a whole number from 1 to 4, not 'four'"),
        ({"worker_cores": 0}, "worker_cores must be a whole number from 1 to 4, not 0"),
        ({"worker_cores": 5}, "worker_cores must be a whole number from 1 to 4, not 5"),
        ({"worker_cores": True}, "worker_cores must be"),
        ({"worker_cores": 1.5}, "worker_cores must be"),
        ({"worker_cores": None}, "worker_cores must be"),
        ({"worker_cores": float("nan")}, "worker_cores must be"),
        ({"worker_cores": 10**400}, "worker_cores must be"),
        ({"worker_cores": [1] * 10_000}, "worker_cores must be"),
        ({"worker_memory": "much"}, "from 512 MiB to 8 GiB, not 'much'"),
        ({"worker_memory": 9}, "worker_memory must be GiB as a number, or text like"),
        ({"worker_memory": -1}, "worker_memory must be"),
        ({"worker_memory": float("inf")}, "worker_memory must be"),
        ({"worker_memory": "9" * 10_000}, "worker_memory must be"),
        ({"worker_memory": True}, "worker_memory must be"),
        (
            {"profile": "huge"},
            "profile must be one of 'small', 'big', 'half', 'outside', not 'huge'",
        ),
        ({"profile": "no\nsuch"}, "profile must be one of"),
        ({"profile": ["small"]}, "profile must be one of"),
        ({"Worker_Cores": 1}, "'Worker_Cores' is no option here; did you mean 'worker_cores'?"),
        ({"colour": "blue"}, "'colour' is no option here; known are profile, worker_cores"),
        ({"env_dropped": []}, "'env_dropped' is no option here"),
        ({"queue": "q1"}, "queue must be one of 'short', 'long', not 'q1'"),
        ({"gpus": 3}, "gpus must be a whole number from 0 to 2, not 3"),
        ({"greeting": "a\nb"}, "greeting must be text without control characters, not 'a\\nb'"),
        ({"greeting": "x" * 11}, "greeting must be text of at most 10 characters"),
        ({"greeting": "1"}, "greeting must be text that matches '[A-Za-z ]*', not '1'"),
        ({"greeting": 1}, "greeting must be text, not 1"),
        ({"idle": 10}, "idle must be a number of at least 60, not 10"),
        ({"idle": 7200}, "idle must be at most 3600, not 7200"),
        ({"fast": "yes"}, "fast must be true or false, not 'yes'"),
        ({"more": "x"}, "more must be a mapping, not 'x'"),
        ({"more": {"a": [[[[[[[[[[[1]]]]]]]]]]]}}, "more is nested too deeply: at most 10 levels"),
        ({"more": {"x": "y" * 2**20}}, "more is too large"),
        ({"env": "A=1"}, "env must be a mapping of names to text, not 'A=1'"),
        ({"env": {"": "x"}}, "env: '' cannot be a variable's name"),
        ({"env": {"A=B": "x"}}, "env: 'A=B' cannot be a variable's name"),
        ({"env": {"A\nB": "x"}}, "env: 'A\\nB' cannot be"),
        ({"env": {"A\0B": "x"}}, "env: 'A\\x00B' cannot be"),
        ({"env": {"A": 7}}, "env: the value of 'A' must be text, not int"),
        ({"env": {"A": None}}, "env: the value of 'A' must be text, not NoneType"),
        ({"env": {"A": "x\0y"}}, "env: the value of 'A' holds a NUL"),
        ({"env": {"A": "\ud800"}}, "env: the value of 'A' is not valid text"),
        ({"env": {"A": "x" * 131_070}}, "env: 'A' is too large: a variable may have 128 KiB"),
        ({"env": {f"V{n}": "x" * 100_000 for n in range(100)}}, "env is too large"),
        ({"env": {"A": "x" * 10_000_000}}, "env: 'A' is too large"),
        ({"env": {f"V{n}": "" for n in range(10_001)}}, "at most 10000 variables are allowed"),
        (
            {"conda_env": "/a", "pixi_project": "/b"},
            "conda_env and pixi_project exclude each other",
        ),
        ({"conda_env": "/a", "pixi_env": "x"}, "conda_env and pixi_env exclude each other"),
        ({"venv": "/a", "pixi_project": "/b"}, "pixi_project and venv exclude each other"),
        ({"venv": "/a", "conda_env": "/b"}, "conda_env and venv exclude each other"),
        ({"pixi_env": "gpu"}, "pixi_env needs pixi_project"),
        ({"pixi_project": "/a", "pixi_env": "../../b"}, "pixi_env must be text that matches"),
        ({"pixi_project": "ana"}, "pixi_project must be the absolute path of a pixi project"),
        ({"conda_env": "cms"}, "conda_env must be the absolute path of a conda environment, not"),
        ({"conda_env": "~/envs/cms"}, "conda_env must be the absolute path of a conda environment"),
        ({"conda_env": "/a\nb"}, "conda_env must be a path without"),
        ({"venv": "relative"}, "venv must be the absolute path"),
        ({"venv": 7}, "venv must be the absolute path"),
        ({"venv": "/a/../b"}, "venv must be a path without '..'"),
        ({"venv": "/a\0b"}, "venv must be a path without"),
        ({"venv": "/a\nb"}, "venv must be a path without"),
        ({"venv": "/a:/b"}, "venv must be a path without"),
        ({"venv": "/" + "x" * 2000}, "venv must be a path without"),
    ],
)
def test_refused(options: dict[str, object], words: str) -> None:
    assert words in wrong(options)


def test_secrets_in_variables_are_not_repeated() -> None:
    assert "sesam" not in wrong({"env": {"A": "sesam\0"}})


def test_several_mistakes_are_told_at_once() -> None:
    text = wrong({"worker_cores": 0, "colour": "blue", "venv": "x", "profile": "huge"})
    assert all(word in text for word in ("worker_cores", "colour", "venv", "profile"))
    text = wrong({f"x{n}": 1 for n in range(1000)})
    assert "and 990 more mistakes" in text


@pytest.mark.parametrize("uid", [0, 499])
def test_system_accounts_run_no_jobs(uid: int) -> None:
    if uid == 0 and os.geteuid() == 0:
        settings = Settings.model_validate(
            {**tomllib.loads(TEXT), "auth": {"type": "basic", "password": "x"}}
        )
    else:
        settings = SETTINGS.model_copy(update={"auth": SimpleNamespace(type="basic")})
    daemon = Identity("daemon", uid, 0, (), "/")
    with pytest.raises(Invalid, match=r"may not run as the Unix user daemon .*users.min_uid"):
        resolve(settings, 0, {}, ANNA, daemon)
