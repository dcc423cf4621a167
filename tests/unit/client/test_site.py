"""What a notebook's configuration means, and images that are looked for before anything else."""

import os

import dask
import pytest
from click.testing import CliRunner

from penstock.client import setup_condor
from penstock.client.images import checked, unpacked
from penstock.client.site import Images, configured, gateway_section, read_dotenv

NAME = "coffeateam/coffea-base-almalinux8:0.7.22-py3.10"
HUB = "registry.hub.docker.com"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONDOR_BIN_DIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


@pytest.fixture
def base(tmp_path):
    (tmp_path / "cvmfs" / HUB / NAME).mkdir(parents=True)
    return str(tmp_path / "cvmfs")


def test_nothing_configured_is_htcondor_as_it_is_here():
    with dask.config.set({"gateway.htcondor": {}}):
        assert configured().backend == {"type": "htcondor"}
        assert configured().images == Images()


def test_keys_of_images_and_of_htcondor(monkeypatch):
    given = {"image-base": "/cvmfs/x", "bind": ["/scratch"], "schedd": "s1", "jobs": {"rank": "1"}}
    monkeypatch.setenv("CONDOR_BIN_DIR", "/opt/condor/bin")
    with dask.config.set({"gateway.htcondor": given}):
        site = configured()
    assert site.images == Images(image_base="/cvmfs/x", bind=["/scratch"])
    assert site.backend == {
        "type": "htcondor",
        "schedd": "s1",
        "jobs": {"rank": "1"},
        "bin": "/opt/condor/bin",
    }


def test_tools_are_found_by_the_path_unless_it_is_said_where_they_are(tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "condor_submit").touch(0o755)
    with dask.config.set({"gateway.htcondor": {}}):
        assert configured().backend["bin"] == str(tools)
        monkeypatch.setenv("PATH", "bin")
        assert configured().backend["bin"] == str(tools)
        monkeypatch.setenv("CONDOR_BIN_DIR", "/opt/condor/bin")
        assert configured().backend["bin"] == "/opt/condor/bin"
    with dask.config.set({"gateway.htcondor": {"bin": "/site/bin"}}):
        assert configured().backend["bin"] == "/site/bin"


def test_another_backend():
    with dask.config.set({"gateway.notebook": {"backend": {"type": "slurm"}}}):
        assert configured().backend == {"type": "slurm"}


def test_a_dotenv_file_and_late_variables_count(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(
        "DASK_GATEWAY__HTCONDOR__SCHEDD=s7\nDASK_GATEWAY__ADDRESS=http://there\nHOME=/not/mine\n"
    )
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    home = os.environ["HOME"]
    assert gateway_section()["address"] == "http://there"
    assert configured().backend["schedd"] == "s7"
    assert os.environ["HOME"] == home


def test_a_dotenv_file_of_somebody_else_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / ".env"
    path.write_text("DASK_PENSTOCK__SETUP_CONDOR__SSH=/tmp/evil\n")
    if os.getuid() == 0:
        os.chown(path, 54321, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.chdir(tmp_path)
    assert not read_dotenv()
    told = CliRunner().invoke(setup_condor.main, ["--login-host", "login", "--dry-run"]).output
    assert "DASK_PENSTOCK__SETUP_CONDOR__SSH" not in os.environ
    assert "evil" not in told


def test_an_image_below_the_base(base):
    assert unpacked(base, HUB, NAME) == f"{base}/{HUB}/{NAME}"
    assert unpacked(base, HUB, f"{HUB}/{NAME}") == f"{base}/{HUB}/{NAME}"


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (NAME.replace("3.10", "3.11"), f"did you mean {{base}}/{HUB}/{NAME}?"),
        (NAME.replace("coffeateam", "cofeateam"), f"did you mean {{base}}/{HUB}/coffeateam?"),
        ("quite/else", f"in {{base}}/{HUB} there are coffeateam"),
    ],
)
def test_one_that_is_not_there_is_told_with_what_is_near(base, image, told):
    with pytest.raises(ValueError, match="There is no image") as caught:
        unpacked(base, HUB, image)
    assert f"{base}/{HUB}/{image}" in str(caught.value)
    assert told.format(base=base) in str(caught.value)


def test_a_base_that_is_not_mounted_is_told(tmp_path):
    with pytest.raises(ValueError, match="is it mounted here"):
        unpacked(str(tmp_path / "cvmfs"), HUB, NAME)


@pytest.mark.parametrize("image", ["../../etc", "/etc/passwd", "a/../../../../x"])
def test_a_name_leads_nowhere_else(base, image):
    with pytest.raises(ValueError, match=r"no image|cannot be the name"):
        unpacked(base, HUB, image)


def test_files_and_addresses(tmp_path):
    (tmp_path / "PublicHealth.sif").touch()
    assert checked(f"{tmp_path}/PublicHealth.sif") == f"{tmp_path}/PublicHealth.sif"
    assert checked("docker://ncsa/x") == "docker://ncsa/x"
    with pytest.raises(ValueError, match=r"did you mean .*/PublicHealth\.sif\?"):
        checked(f"{tmp_path}/PublicHelth.sif")
    with pytest.raises(ValueError, match=r"There is no image /q/x/y\.sif; there is no /q here"):
        checked("/q/x/y.sif")


def test_which_image_is_meant(base):
    site = Images(image_base=base, image=NAME)
    assert site.path(None, None, None).endswith(NAME)
    assert site.path(None, None, "docker://x") == "docker://x"
    assert Images().path("ncsa/x", None, None) == ""
    assert Images(container_image="docker://y").path(None, None, None) == "docker://y"
