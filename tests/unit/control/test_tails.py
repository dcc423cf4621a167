"""The last output of the dead is there, and never too much of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.control import tails
from penstock.control.tails import Tails


def test_what_was_kept_is_found_and_forgotten(tmp_path: Path) -> None:
    kept = Tails(tmp_path / "tails")
    kept.keep("c1", "w3-4", "traceback\né")
    kept.keep("c1", "w3-5", " \n")
    assert Tails(tmp_path / "tails").find("c1", "w3-4") == "traceback\né"
    assert kept.find("c1", "w3-5") == ""
    assert (tmp_path / "tails" / "c1").stat().st_mode & 0o777 == 0o700
    kept.forget("c1")
    assert kept.find("c1", "w3-4") == ""


def test_only_so_much_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "MOST_JOBS", 2)
    monkeypatch.setattr(tails, "MOST_CLUSTERS", 2)
    kept = Tails(tmp_path)
    for number in range(4):
        kept.keep("c1", f"w1-{number}", "x")
        os.utime(tmp_path / "c1" / f"w1-{number}", (number, number))
    assert {path.name for path in (tmp_path / "c1").iterdir()} == {"w1-2", "w1-3"}
    os.utime(tmp_path / "c1", (0, 0))
    for cluster in ("c2", "c3"):
        kept.keep(cluster, "s0-0", "x")
    assert {path.name for path in tmp_path.iterdir()} == {"c2", "c3"}


def test_it_is_only_a_comfort(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (None, tmp_path / "file"):
        kept = Tails(place)
        kept.keep("c1", "w1-0", "x")
        assert kept.find("c1", "w1-0") == ""
        kept.forget("c1")
