"""The job script: what goes in comes out, byte for byte, and nothing is ever taken for code.

The scripts are run by the very shells that nodes have, without Slurm.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.backends import payload
from penstock.backends.slurm import script
from penstock.model.errors import Rejected
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Resources, Role
from penstock.settings.backends import SlurmJobSettings

ID = BatchId("0123abcd", "f" * 32, 3)
SHOW = """
import json, os, sys
with open("/proc/self/environ", "rb") as file:
    env = file.read()
print(json.dumps({
    "env": sorted(e.decode("latin-1") for e in env.split(b"\\0") if e),
    "argv": [os.fsencode(a).decode("latin-1") for a in sys.argv[1:]],
    "files": {os.fsencode(n).decode("latin-1"): open(n, "rb").read().decode("latin-1")
              for n in os.listdir(".")},
    "modes": sorted({os.stat(n).st_mode & 0o777 for n in os.listdir(".")}),
    "input": sys.stdin.read(),
    "directory": os.getcwd(),
}))
"""
SHELLS = [path for name in ("dash", "bash", "busybox") if (path := shutil.which(name))]


def batch(*arguments: str, **changes: object) -> Batch:
    values: dict[str, object] = {
        "id": ID,
        "owner": "alice",
        "role": Role.WORKER,
        "count": 2,
        "command": (sys.executable, "-I", "show.py", *arguments),
        "files": {"show.py": SHOW.encode()},
        **changes,
    }
    return Batch(**values)  # type: ignore[arg-type]


def run(text: bytes, directory: Path, shell: str = "/bin/sh", **env: str):
    """Run a script as slurmd would, in an empty environment but for Slurm's own variables."""
    path = directory / "slurm_script"
    path.write_bytes(text)
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)
    words = [shell, "sh"] if shell.endswith("busybox") else [shell]
    done = subprocess.run(
        [*words, str(path)],
        env={"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1", "TMPDIR": str(scratch), **env},
        capture_output=True,
        timeout=60,
        cwd="/",
    )
    assert list(scratch.iterdir()) == [], "the private directory goes with the job"
    return done


def output(directory: Path, log: Path) -> dict:
    return json.loads((log / ID.tag / "1.log").read_text())


@pytest.mark.parametrize("shell", SHELLS)
def test_all_arrives_and_nothing_stays(tmp_path: Path, shell: str) -> None:
    logs = tmp_path / "logs of 'alice' $HOME"
    env = {"A": "a\r\n'b' \"$(id)\" `id` \\", "BASH_FUNC_x%%": "() { :; }", "PATH": "/nowhere"}
    text = script.job_script(batch("$HOME", "", env=env), str(logs), None)
    assert run(text, tmp_path, shell).returncode == 0
    seen = output(tmp_path, logs)
    own = {"PENSTOCK_TAG": ID.tag, "PENSTOCK_INDEX": "1"}
    assert seen["env"] == sorted(f"{key}={value}" for key, value in {**env, **own}.items())
    assert seen["argv"] == ["$HOME", ""]
    assert (seen["input"], seen["modes"]) == ("", [0o600])
    assert (logs / ID.tag / "1.log").stat().st_mode & 0o777 == 0o600


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0="), min_size=1, max_size=20
).filter(lambda name: not re.fullmatch("[A-Z_]+", name))  # LD_AUDIT and its like mean something
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)
file_names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40
).filter(lambda name: name not in (".", "..", "show.py"))


@given(
    env=st.dictionaries(names, texts, max_size=4),
    arguments=st.lists(texts, max_size=3),
    files=st.dictionaries(file_names, st.binary(max_size=60), max_size=2),
    logs=st.text(st.characters(codec="utf-8", categories=("L", "P", "S", "Zs")), max_size=20),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_is_ever_code(
    tmp_path_factory: pytest.TempPathFactory,
    env: dict[str, str],
    arguments: list[str],
    files: dict[str, bytes],
    logs: str,
) -> None:
    directory = tmp_path_factory.mktemp("fuzz")
    place = directory / ("l" + logs.replace("/", "_"))
    made = batch(*arguments, env=env, files={"show.py": SHOW.encode(), **files})
    payload.check(made, "Slurm", most=10)
    assert run(script.job_script(made, str(place), None), directory).returncode == 0
    seen = output(directory, place)
    wanted = {**env, "PENSTOCK_TAG": ID.tag, "PENSTOCK_INDEX": "1"}
    assert seen["env"] == sorted(
        f"{key}={value}".encode().decode("latin-1") for key, value in wanted.items()
    )
    assert seen["argv"] == [text.encode().decode("latin-1") for text in arguments]
    del seen["files"]["show.py"]
    assert seen["files"] == {
        name.encode().decode("latin-1"): content.decode("latin-1")
        for name, content in files.items()
    }


def test_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    for code, shown in (("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)):
        made = batch(files={"show.py": f"import os, sys; {code}".encode()})
        assert run(script.job_script(made, "", None), tmp_path).returncode == shown


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    made = batch(command=("/nowhere/bin/python", "show.py"))
    logs = tmp_path / "logs"
    assert run(script.job_script(made, str(logs), None), tmp_path).returncode == script.NO_COMMAND
    assert "/nowhere/bin/python" in (logs / ID.tag / "1.log").read_text()


def test_no_private_directory(tmp_path: Path) -> None:
    text = script.job_script(batch(), "", str(tmp_path / "no such directory"))
    done = run(text, tmp_path)
    assert done.returncode == script.NO_DIRECTORY


def test_output_that_cannot_be_kept_stops_no_job(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    made = batch(files={"show.py": f"open({str(marker)!r}, 'w')".encode()})
    assert run(script.job_script(made, "/proc/nowhere", None), tmp_path).returncode == 0
    assert marker.exists()


def test_only_a_job_with_gpus_is_told_which(tmp_path: Path) -> None:
    for gpus, told in ((0, []), (1, ["CUDA_VISIBLE_DEVICES=3"])):
        made = batch(resources=Resources(gpus=gpus))
        logs = tmp_path / f"logs{gpus}"
        run(script.job_script(made, str(logs), None), tmp_path, CUDA_VISIBLE_DEVICES="3")
        env = output(tmp_path, logs)["env"]
        assert [entry for entry in env if "CUDA" in entry] == told


def test_the_python_is_found_with_the_jobs_own_path(tmp_path: Path) -> None:
    own = tmp_path / "bin"
    own.mkdir()
    (own / "mypython").symlink_to(os.path.realpath("/usr/bin/python3"))
    made = batch(command=("mypython", "show.py"), env={"PATH": f"{own}:/usr/bin"})
    logs = tmp_path / "logs"
    assert run(script.job_script(made, str(logs), None), tmp_path).returncode == 0


def test_no_line_of_a_script_is_read_by_sbatch() -> None:
    made = batch(env={"A": "\n#SBATCH --uid=0\n", "PATH": "a\n#SBATCH --uid=0\n"})
    lines = script.job_script(made, "", None).decode().splitlines()
    assert not [line for line in lines if line.startswith(("#SBATCH", "#PBS", "#BSUB"))]
    assert not [line for line in lines if "\r" in line]


def test_secrets_are_in_no_argument() -> None:
    made = batch(env={"TOKEN": "geheim"}, files={"show.py": b"geheim"})
    assert "geheim" not in " ".join(script.arguments(made, SlurmJobSettings()))
    assert b"geheim" not in script.job_script(made, "", None)


def test_arguments() -> None:
    made = batch(resources=Resources(cores=1.5, memory=2**30 + 1, gpus=2))
    jobs = SlurmJobSettings.model_validate(
        {
            "partition": "cms; rm -rf /",
            "gres": "nvme:1",
            "time": "90 s",
            "arguments": ["--nice=100"],
        }
    )
    words = script.arguments(made, jobs)
    assert words[:4] == [
        "--parsable",
        "--array=0-1",
        f"--job-name=dask-worker-{ID.cluster}",
        f"--comment={ID.tag}",
    ]
    assert words[-7:] == [
        "--ntasks=1",
        "--cpus-per-task=2",
        "--mem=1025M",
        "--gres=gpu:2,nvme:1",
        "--time=2",
        "--partition=cms; rm -rf /",
        "--nice=100",
    ]
    assert "--no-requeue" in words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 0}, "1 to 10"),
        ({"count": 11}, "1 to 10"),
        ({"command": ()}, "path or name of a Python"),
        ({"command": ("a\nb",)}, "path or name of a Python"),
        ({"command": ("a", "b\0")}, "NUL"),
        ({"env": {"A=": ""}}, "cannot be the name"),
        ({"env": {"A": "x" * 131_072}}, "Linux takes at most"),
        ({"env": {"A": "\udfff\ud800"}}, "UTF-8"),
        ({"files": {"../x": b""}}, "cannot be the name of a file"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(Rejected, match=words):
        payload.check(batch(**changes), "Slurm", most=10)


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(Rejected, match="put large data into a file"):
        script.job_script(batch(files={"data": os.urandom(4 * 2**20)}), "", None)


@pytest.mark.parametrize(
    "argument",
    ["nice", "-p x", "--array=0-9", "--arr=0-9", "--uid=0", "--export=ALL", "--wrap=x", "--a\nb"],
)
def test_arguments_that_are_the_gateways_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match="arguments"):
        SlurmJobSettings.model_validate({"arguments": [argument]})
