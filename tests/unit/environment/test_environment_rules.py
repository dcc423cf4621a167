"""Which variables reach a job."""

from __future__ import annotations

import pytest

from penstock.environment import EnvironmentRules, job_environment


def make(user: dict[str, str], **more: object):
    arguments = {"name": "anna", "home": "/home/anna", "python": "/opt/x/bin/python", **more}
    site = arguments.pop("site", {})
    rules = arguments.pop("rules", EnvironmentRules())
    return job_environment(rules, site, user, **arguments)  # type: ignore[arg-type]


def test_without_anything() -> None:
    assert make({}).env == {
        "LANG": "C.UTF-8",
        "HOME": "/home/anna",
        "USER": "anna",
        "LOGNAME": "anna",
        "PATH": "/opt/x/bin:/usr/local/bin:/usr/bin:/bin",
    }


def test_values_pass_byte_for_byte() -> None:
    values = {
        "A": "a\nb\r\n",
        "B": "$(reboot) `x` ${HOME}",
        "C": "'\"\\",
        "Ü": "→ß",
        "D": "x" * 100_000,
    }
    made = make(values)
    assert {name: made.env[name] for name in values} == values
    assert made.dropped == ()


def test_the_user_wins_over_the_site_but_not_over_us() -> None:
    made = make(
        {"X": "user", "HOME": "/evil", "USER": "root", "PENSTOCK_TAG": "p", "VIRTUAL_ENV": "/v"},
        site={"X": "site", "Y": "site", "PENSTOCK_Z": "site's own business"},
        venv="/opt/x",
    )
    assert (made.env["X"], made.env["Y"]) == ("user", "site")
    assert (made.env["HOME"], made.env["USER"]) == ("/home/anna", "anna")
    assert made.env["VIRTUAL_ENV"] == "/opt/x"
    assert made.dropped == ("HOME", "PENSTOCK_TAG", "USER", "VIRTUAL_ENV")


@pytest.mark.parametrize(
    "name",
    [
        "JUPYTERHUB_API_TOKEN",
        "JPY_PARENT_PID",
        "PYTHONHOME",
        "LD_PRELOAD",
        "SLURM_JOB_ID",
        "_CONDOR_SLOT",
        "DB_PASSWORD",
        "DASK_GATEWAY__AUTH__KWARGS",
        "CUDA_VISIBLE_DEVICES",
        "PWD",
        "CONDA_PREFIX",
        "PIXI_PROJECT_ROOT",
        "OAUTH_CLIENT_SECRET",
        "JUPYTERHUB_COOKIE_SECRET",
        "KRB_PASSPHRASE",
        "PMIX_RANK",
        "NVIDIA_VISIBLE_DEVICES",
        "DASK_INTERNAL_INHERIT_CONFIG",
        "BASH_FUNC_module%%",
        "TMP",
    ],
)
def test_dropped_by_default(name: str) -> None:
    made = make({name: "x"})
    assert name not in made.env
    assert made.dropped == (name,)


@pytest.mark.parametrize(
    "name",
    [
        "X509_USER_PROXY",
        "BEARER_TOKEN_FILE",
        "BEARER_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "DASK_DISTRIBUTED__LOGGING",
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "OMP_NUM_THREADS",
        "home",
    ],
)
def test_passed_by_default(name: str) -> None:
    assert make({name: "x"}).env[name] == "x"


def test_a_site_may_drop_nothing() -> None:
    made = make({"LD_PRELOAD": "x", "HOME": "/evil"}, rules=EnvironmentRules(drop=()))
    assert made.dropped == ("HOME",)


def test_a_site_changes_the_rules() -> None:
    rules = EnvironmentRules(drop=("*",), keep=("OK_*", "HOME"))
    made = make({"OK_1": "x", "NO": "x", "HOME": "/evil"}, rules=rules)
    assert made.env["OK_1"] == "x"
    assert made.dropped == ("HOME", "NO")


@pytest.mark.parametrize(
    ("python", "given", "path"),
    [
        ("python3", {}, "/usr/local/bin:/usr/bin:/bin"),
        ("python3", {"PATH": "/a"}, "/a"),
        ("/v/bin/python", {"PATH": "/a"}, "/v/bin:/a"),
        ("/v/bin/python", {"PATH": ""}, "/v/bin:/usr/local/bin:/usr/bin:/bin"),
    ],
)
def test_path(python: str, given: dict[str, str], path: str) -> None:
    assert make(given, python=python).env["PATH"] == path
