"""The job script: what goes in comes out, byte for byte, and nothing is ever taken for code.

The scripts are run by the very shells that nodes have, without Slurm.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.backends import payload
from penstock.backends.codes import NO_COMMAND
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
    assert run(script.job_script(made, str(logs), None), tmp_path).returncode == NO_COMMAND
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


def wait_for(ready: Callable[[], bool], tell: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + 30
    tell()
    again = time.monotonic() + 1
    while not ready():
        now = time.monotonic()
        assert now < deadline
        if now > again:
            tell()
            again = now + 1
        time.sleep(0.02)


def shared(each: int, count: int, **changes: object) -> tuple[Batch, SlurmJobSettings]:
    return batch(count=count, **changes), SlurmJobSettings(workers_per_job=each)


@pytest.mark.parametrize("shell", SHELLS)
def test_workers_share_a_job(tmp_path: Path, shell: str) -> None:
    logs = tmp_path / "logs"
    made, jobs = shared(3, 5, resources=Resources(cores=2, memory=2**30, gpus=2))
    words = script.arguments(made, jobs)
    wanted = {"--array=0-1", f"--comment={ID.tag} 3x5", "--cpus-per-task=6", "--mem=3072M"}
    assert wanted | {"--gres=gpu:6"} <= set(words)
    text = script.job_script(made, str(logs), None, jobs)
    done = run(text, tmp_path, shell, CUDA_VISIBLE_DEVICES="0,1,2,3,4,5")
    assert done.returncode == 0, done.stderr
    found = {path.name: json.loads(path.read_text()) for path in (logs / ID.tag).iterdir()}
    assert found.keys() == {"3.log", "4.log"}, "the second task has two of five"
    for name, devices in (("3.log", "0,1"), ("4.log", "2,3")):
        assert f"PENSTOCK_INDEX={name[0]}" in found[name]["env"]
        assert f"CUDA_VISIBLE_DEVICES={devices}" in found[name]["env"]
        assert found[name]["files"].keys() == {"show.py"}
    assert found["3.log"]["directory"] != found["4.log"]["directory"]


def test_only_workers_share_and_no_more_than_there_are() -> None:
    for count, role, tasks, cores in ((2, Role.WORKER, 1, 2), (1, Role.SCHEDULER, 1, 1)):
        made, jobs = shared(4, count, role=role)
        words = script.arguments(made, jobs)
        assert {f"--array=0-{tasks - 1}", f"--cpus-per-task={cores}"} <= set(words)


ENDED = b"""
import os, signal, sys, time
def end(*_):
    print("ended", flush=True)
    sys.exit(int(os.environ["PENSTOCK_INDEX"]))
signal.signal(signal.SIGTERM, end)
print("there", flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_signal_ends_one_of_those_that_share(tmp_path: Path, shell: str) -> None:
    logs, scratch = tmp_path / "logs", tmp_path / "scratch"
    scratch.mkdir()
    made, jobs = shared(3, 3, files={"show.py": ENDED})
    path = tmp_path / "script"
    path.write_bytes(script.job_script(made, str(logs), str(scratch), jobs))
    words = [shell, "sh"] if shell.endswith("busybox") else [shell]
    process = subprocess.Popen(
        [*words, str(path)], env={"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "0"}
    )

    def reads(index: int, words: str) -> bool:
        log = logs / ID.tag / f"{index}.log"
        return log.exists() and log.read_text().split() == words.split()

    wait_for(lambda: all(reads(index, "there") for index in range(3)))
    for index, number in ((1, 36), (1, 36), (0, 35), (2, 37)):
        # Told again as in real life: bash may hold a second signal back until a third comes.
        wait_for(lambda: reads(index, "there ended"), lambda: process.send_signal(number))  # noqa: B023
    assert process.wait(30) == 2, "it ends with the last of them"
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("each", [1, 2])
def test_what_a_prolog_changes_reaches_the_job(tmp_path: Path, each: int) -> None:
    own = tmp_path / "modules"
    own.mkdir()
    (own / "sitepython").symlink_to(os.path.realpath("/usr/bin/python3"))
    logs = tmp_path / "logs"
    lines = [
        f"load() {{ export PATH={own}:$PATH; }}",
        f"load; export LD_LIBRARY_PATH={own} CUDA_HOME=/site",
        "declare -x DECLARED='two words'; echo said; unset nothing",
    ]
    env = {"PATH": "/job/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": "/job/lib", "CUDA_HOME": "/job"}
    jobs = SlurmJobSettings(prolog=tuple(lines), workers_per_job=each)
    made = batch(command=("sitepython", "-I", "show.py"), env=env, count=2 * each)
    done = run(script.job_script(made, str(logs), None, jobs), tmp_path, "/bin/bash")
    assert done.returncode == 0, done.stderr
    said, _, shown = (logs / ID.tag / f"{each}.log").read_text().partition("\n")
    own_variables = dict(entry.split("=", 1) for entry in json.loads(shown)["env"])
    for name in ("PENSTOCK_TAG", "PENSTOCK_INDEX", "PENSTOCK_WORKERS"):
        own_variables.pop(name, None)
    assert said == "said"
    assert own_variables == {
        "PATH": f"{own}:/job/bin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": f"{own}:/job/lib",
        "CUDA_HOME": "/site",
        "DECLARED": "two words",
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("module load python/3.11", "module: command not found"),
        ("if [", "syntax error"),
        ("echo 'no such thing' >&2; false", "no such thing"),
    ],
)
def test_a_prolog_that_fails_is_told_by_the_command(tmp_path: Path, line: str, words: str) -> None:
    tell = b"import os; print('told:', os.environ['PENSTOCK_FAILED'])"
    made = batch(command=("/nowhere/python", "show.py"), files={"show.py": tell})
    logs = tmp_path / "logs"
    jobs = SlurmJobSettings(prolog=(line, "touch /nowhere/else"))
    done = run(script.job_script(made, str(logs), None, jobs), tmp_path, "/bin/bash")
    assert done.returncode == script.NO_PROLOG
    told = (logs / ID.tag / "1.log").read_text().partition("told: ")[2]
    assert told.startswith(f"the profile's prolog failed at {line}: ")
    assert words in told
    assert "/nowhere/else" not in told


def test_a_prolog_that_leaves_the_shell_has_failed(tmp_path: Path) -> None:
    text = script.job_script(batch(), "", None, SlurmJobSettings(prolog=("exit 0",)))
    assert run(text, tmp_path, "/bin/bash").returncode == script.NO_PROLOG


def test_what_killed_jobs_left_goes_with_the_next(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    old = scratch / f"penstock-p-{ID.gateway}-x.1"
    others = {
        "lives": (f"penstock-p-{ID.gateway}-x.2", "n1"),
        "another node's": (f"penstock-p-{ID.gateway}-x.3", "n2"),
        "another gateway's": ("penstock-p-99999999-x.4", "n1"),
    }
    for name, node in [(old.name, "n1"), *others.values()]:
        (scratch / name).mkdir(parents=True)
        (scratch / name / "lock").write_text(f"{node}\n")
    with (scratch / others["lives"][0] / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = tmp_path / "script"
        path.write_bytes(script.job_script(batch(), "", str(scratch)))
        env = {"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1", "SLURMD_NODENAME": "n1"}
        subprocess.run(["/bin/sh", str(path)], env=env, check=True, timeout=60)
    assert {path.name for path in scratch.iterdir()} == {name for name, _ in others.values()}
