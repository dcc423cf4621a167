"""Entering a container on a node: what is run there, and what is told when that cannot be."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.environment.container import Container, enter

RIG = Path(__file__).parents[2] / "rigs" / "apptainer.py"
SHOW = (
    "import json, os, sys; p = os.environ.get('X509_USER_PROXY');"
    "print(json.dumps([os.getcwd(), sys.argv[1:], p and open(p).read()]))"
)


@pytest.fixture
def node(tmp_path):
    """A job's private directory on a node, an image and an apptainer."""
    job = tmp_path / "job of 'a' user"
    job.mkdir()
    (tmp_path / "x.sif").touch()
    apptainer = tmp_path / "apptainer"
    apptainer.write_text(f"#!{sys.executable}\n{RIG.read_text()}")
    apptainer.chmod(0o755)
    return tmp_path


def run(node, container, proxy=None, command=(sys.executable, "-c", SHOW, "a b", "$(id)", "'")):
    words, files = enter(command, container, proxy, python=sys.executable)
    job = node / "job of 'a' user"
    for name, content in files.items():
        (job / name).write_bytes(content)
    return subprocess.run(words, cwd=job, capture_output=True, text=True), job


def test_with_a_proxy_alone(node):
    done, job = run(node, None, b"secret")
    assert json.loads(done.stdout) == [str(job), ["a b", "$(id)", "'"], "secret"]


def test_in_a_container(node):
    box = Container(str(node / "x.sif"), str(node / "apptainer"), ["/tmp:/in:ro", "/no"], ["--nv"])
    done, job = run(node, box, b"secret")
    lines = done.stdout.splitlines()
    assert json.loads(lines[-1]) == [str(job), ["a b", "$(id)", "'"], "secret"]
    assert lines[0] == "penstock: there is no /no here to bind"
    entered = json.loads((job / "apptainer.json").read_text())
    assert entered["options"] == ["--nv"]
    assert entered["binds"] == [f"{job}:/srv", "/tmp:/in:ro"]


@pytest.mark.parametrize(
    ("container", "told"),
    [
        (Container("/nowhere/x.sif", sys.executable), "the image /nowhere/x.sif is not there on "),
        (Container("docker://x", "/nowhere/apptainer"), "there is no /nowhere/apptainer on "),
    ],
)
def test_what_the_node_lacks_is_told(node, container, told):
    done, _ = run(node, container)
    assert (done.returncode, done.stdout.startswith(f"penstock: {told}")) == (78, True)


def test_a_command_that_is_not_there_is_told(node):
    done, _ = run(node, None, b"p", ("/nowhere/python", "x"))
    assert done.returncode == 127
    assert done.stdout == "penstock: cannot run '/nowhere/python': No such file or directory\n"
