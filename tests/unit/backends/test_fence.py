"""What a command behind the fence can and cannot write. By the real kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from penstock.backends import fence

SCRIPT = """
cd "$1"
echo more >out/old
rm -f out/old
echo new >out/new
mv in/mine out/
ln -s /etc/passwd in/link
mkfifo in/pipe
{ echo inside >in/log && mkdir in/deep && mv in/log in/deep/ && rm in/mine; } && echo done
echo nothing >/dev/null && mkdir "$2" && rmdir "$2" && echo proved
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "out/old").write_text("old")
    (tmp_path / "in/mine").write_text("mine")
    return tmp_path


def behind(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path, *rest = command
    return subprocess.run(
        [*fence.words(str(place / "in"), path), *rest], capture_output=True, text=True, timeout=60
    )


def names(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


def test_it_writes_in_its_directory_and_nowhere_else(place: Path) -> None:
    assert fence.available(), "this kernel has no Landlock (Linux 5.13)"
    other = f"/tmp/pk-fence-{place.name}"  # as HTCondor's FS does
    done = behind(place, "/bin/sh", "-c", SCRIPT, "sh", str(place), other)
    assert done.stdout == "done\nproved\n", done.stderr
    assert names(place) == {"in", "in/deep", "in/deep/log", "out", "out/old"}
    assert (place / "out/old").read_text() == "old"


def test_it_makes_no_directory_elsewhere(place: Path) -> None:
    done = behind(place, "/bin/sh", "-c", "mkdir /var/tmp/pk-fence /run/pk-fence /etc/pk-fence")
    assert done.stderr.count("Permission denied") == 3
    assert not any(Path(f"/{name}/pk-fence").exists() for name in ("var/tmp", "run", "etc"))


def test_nothing_runs_without_it(place: Path) -> None:
    (place / "in/mine").unlink()
    (place / "in").rmdir()
    done = behind(place, "/bin/sh", "-c", 'echo new >"$0/out/new"', str(place))
    assert done.returncode == fence.NO_FENCE
    assert "cannot fence it in" in done.stderr
    assert names(place) == {"out", "out/old"}
