"""The submit description: what goes in is what HTCondor reads, and nothing becomes anything else.

Read by the very ``condor_submit`` (without a pool), and the script run by the very shell that nodes have.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.backends.codes import NO_COMMAND
from penstock.backends.htcondor import submit
from penstock.model.errors import Rejected
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Resources, Role
from penstock.settings.htcondor import HTCondorJobSettings
from rigs.condor_install import installed

ID = BatchId("0123abcd", "f" * 32, 3)
LINE = st.text(
    st.characters(exclude_categories=("C",)) | st.sampled_from(list("\"'\\$()[]{}#=;,@ ")),
    min_size=1,
    max_size=60,
)


def batch(**changes):
    given = {
        "id": ID,
        "owner": "alice",
        "role": Role.WORKER,
        "count": 2,
        "command": (sys.executable, "-I", "-c", "pass"),
        "resources": Resources(cores=2.5, memory=10**9),
    }
    return Batch(**{**given, **changes})


def submitted(place, text) -> subprocess.CompletedProcess:
    """What ``condor_submit`` makes of a description; no pool is needed for that."""
    place.joinpath("dask-worker").write_text("#!/bin/sh\n")
    place.joinpath("dask-worker").chmod(0o700)
    return subprocess.run(
        [installed("23.9") / "usr/bin/condor_submit", "-dry-run", "-", "-"],
        input=text,
        capture_output=True,
        text=True,
        env={"CONDOR_CONFIG": "/dev/null", "HOME": "/home-that-nobody-should-see"},
    )


def read(place, text) -> dict[str, str]:
    """The ad of the first job."""
    done = submitted(place, text)
    assert done.returncode == 0, done.stderr + text
    lines = [line.partition("=") for line in done.stdout.split("\n") if "=" in line]
    ad: dict[str, str] = {}
    for key, _, value in lines:
        ad.setdefault(key.strip(), value.strip())
    return ad


def ad(place, jobs=None, **changes):
    settings = HTCondorJobSettings.model_validate(jobs or {})
    owner = changes.pop("named", None)
    return read(place, submit.description(batch(**changes), settings, str(place), owner=owner))


def test_what_a_batch_becomes(tmp_path):
    got = ad(tmp_path, {"time": 100.5, "pool_time": 50}, named="alice")
    assert got["PenstockTag"] == f'"{ID.tag}"'
    assert got["JobBatchName"] == f'"dask-worker-{ID.cluster}"'
    assert (got["RequestCpus"], got["RequestMemory"]) == ("3", "954")
    assert "RequestGPUs" not in got
    assert (got["Args"], got["Out"]) == ('"0"', '"0.log"')
    assert got["Cmd"] == f'"{tmp_path}/dask-worker"'
    assert "JobStatus == 2 && time() - JobCurrentStartDate >= 101" in got["PeriodicRemove"]
    assert got["PenstockTime"] == "50"
    assert (got["Owner"], got["Environment"]) == ('"alice"', '""')
    assert got["JobMaxVacateTime"] == "30"


def test_what_a_site_says(tmp_path):
    jobs = {
        "requirements": 'HasCVMFS && Site == "a)b"',
        "rank": "Memory * 2",
        "accounting_group": "group_cms.prod",
        "accounting_group_user": "alice",
        "concurrency_limits": "db:2,net",
        "request_disk": "2 GiB",
        "periodic_remove": "ImageSize > 10",
        "transfer_input_files": ["/a b", "/c"],
        "attributes": {"isDaskJob": True, "Weight": 1.5, "Who": "me"},
        "submit": {"+Site": "Foo ?: 1", "priority": "7"},
    }
    got = ad(tmp_path, jobs, resources=Resources(gpus=2))
    assert '(HasCVMFS && Site == "a)b")' in got["Requirements"]
    assert "((NumShadowStarts ?: 0) == 0)" in got["Requirements"]
    assert got["PeriodicRemove"].endswith("|| (ImageSize > 10)")
    assert (got["AcctGroup"], got["AcctGroupUser"]) == ('"group_cms.prod"', '"alice"')
    assert got["AccountingGroup"] == '"group_cms.prod.alice"'
    assert got["ConcurrencyLimits"] == '"db:2,net"'
    assert (got["RequestDisk"], got["RequestGPUs"]) == (str(2 * 2**20), "2")
    assert got["TransferInput"] == '"/a b,/c"'
    assert (got["isDaskJob"], got["Weight"], got["Who"]) == ("true", "1.5", '"me"')
    assert (got["Site"], got["JobPrio"], got["Rank"]) == ("Foo ?: 1", "7", "Memory * 2")


def test_a_container(tmp_path):
    got = ad(tmp_path, {"universe": "container", "container_image": "docker://alpine$(HOME)"})
    assert got["ContainerImage"] == '"docker://alpine$(HOME)"'
    assert got["WantContainer"] == "true"


def test_only_an_image_in_one_file_travels(tmp_path):
    container = {"universe": "container"}
    got = ad(tmp_path, {**container, "container_image": "/images/x.sif"})
    assert (got["TransferInput"], got["ContainerImage"]) == ('"/images/x.sif"', '"x.sif"')
    got = ad(tmp_path, {**container, "container_image": "/images/x"})
    assert (got.get("TransferInput"), got["ContainerImage"]) == (None, '"/images/x"')
    stays = {"container_image": "/images/x.sif", "submit": {"transfer_container": "false"}}
    got = ad(tmp_path, {**container, **stays})
    assert (got.get("TransferInput"), got["ContainerImage"]) == (None, '"/images/x.sif"')


@settings(max_examples=40)
@given(text=LINE)
def test_any_line_of_text_stays_itself(tmp_path_factory, text):
    place = tmp_path_factory.mktemp("place", numbered=True)
    try:
        jobs = HTCondorJobSettings.model_validate({"attributes": {"Said": text, "After": 1}})
    except ValidationError:
        assert "$$" in text or not text.strip()
        return
    got = read(place, submit.description(batch(), jobs, str(place)))
    assert got["Said"] == '"' + text.replace('"', '\\"') + '"'
    assert (got["After"], got["PenstockTag"]) == ("1", f'"{ID.tag}"')


@settings(max_examples=40)
@given(text=LINE)
def test_no_expression_reaches_beyond_itself(tmp_path_factory, text):
    place = tmp_path_factory.mktemp("place", numbered=True)
    try:
        jobs = HTCondorJobSettings.model_validate({"requirements": text})
    except ValidationError:
        return
    text = submit.description(batch(), jobs, str(place))
    done = submitted(place, text)
    if done.returncode:
        assert "Parse error" in done.stderr  # HTCondor's to say, to whom it concerns
        return
    got = read(place, text)
    assert got["PenstockTag"] == f'"{ID.tag}"'
    assert got["Requirements"].startswith(f"({submit._FIRST_RUN} && (")


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ({"requirements": "a) || (b"}, "matching quotes and brackets"),
        ({"requirements": 'a == "'}, "matching quotes"),
        ({"requirements": "a \\"}, "matching quotes"),
        ({"rank": "1\n+Owner = 2"}, "one line"),
        ({"container_image": "a$$(b)"}, r"\$\$"),
        ({"attributes": {"Owner": "bob"}}, "set by the gateway"),
        ({"attributes": {"PenstockTag": "x"}}, "set by the gateway"),
        ({"attributes": {"a b": 1}}, "cannot be the name"),
        ({"submit": {"+owner": "bob"}}, "set by the gateway"),
        ({"submit": {"MY.Owner": "bob"}}, "set by the gateway"),
        ({"submit": {"my.Owner": "bob"}}, "cannot be the name"),
        ({"submit": {"queue": "9"}}, "set by the gateway"),
        ({"submit": {"x": "1 \\"}}, "next line"),
        ({"submit": {"x": "@=end"}}, "next line"),
        ({"submit": {"x": "a\rb"}}, "one line"),
        ({"concurrency_limits": "a b"}, "pattern"),
        ({"accounting_group": "a b"}, "letters, digits"),
        ({"no_such": 1}, "Extra"),
    ],
)
def test_what_cannot_be_said(jobs, words):
    with pytest.raises(ValidationError, match=words):
        HTCondorJobSettings.model_validate(jobs)


def test_the_script_runs_its_command_with_what_it_was_given(tmp_path):
    show = "import json, os, sys; print(json.dumps([dict(os.environ), os.listdir(), sys.argv[1:]]))"
    nasty = "a\nb $(id) `id` 'c' \\ é"
    made = batch(
        command=(sys.executable, "-I", "-c", show, nasty),
        env={"NASTY": nasty, "BASH_FUNC_x%%": "() { :; }"},
        files={"it's": b"\0\xff"},
    )
    script = tmp_path / "dask-worker"
    script.write_bytes(submit.job_script(made))
    script.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environ = {"OMP_NUM_THREADS": "1", "X509_USER_PROXY": "/p", "PATH": os.defpath}
    done = subprocess.run([script, "7"], cwd=work, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    env, files, arguments = json.loads(done.stdout)
    assert {key: value for key, value in env.items() if key != "LC_CTYPE"} == {
        **made.env,
        "X509_USER_PROXY": "/p",
        "PENSTOCK_TAG": ID.tag,
        "PENSTOCK_INDEX": "7",
    }
    assert (files, arguments) == (["it's"], [nasty])
    assert (work / "penstock").stat().st_mode & 0o777 == 0o700
    assert script.stat().st_mode & 0o777 == 0o700


def test_a_python_that_is_not_there_exits_with_127(tmp_path):
    script = tmp_path / "dask-worker"
    script.write_bytes(submit.job_script(batch(command=("/nowhere/python",))))
    script.chmod(0o700)
    done = subprocess.run([script, "0"], cwd=tmp_path, capture_output=True)
    assert done.returncode == NO_COMMAND


def test_too_much_is_refused():
    with pytest.raises(Rejected, match="put large data into a file"):
        submit.job_script(batch(files={"x": os.urandom(submit.MAX_SCRIPT)}))
