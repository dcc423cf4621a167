from __future__ import annotations

import sys
from pathlib import Path

import pytest

from penstock.agent.base import Broken
from penstock.agent.child import import_distributed


def test_a_broken_distributed_names_what_may_stand_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "distributed.py").write_text("raise ImportError('no module of another Python')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "distributed", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(
        Broken, match=r"cannot be imported: ImportError: no module of another Python$"
    ):
        import_distributed()
    monkeypatch.setenv("PYTHONPATH", "/notebook/lib")
    with pytest.raises(Broken, match=r"\(PYTHONPATH is set, .* first: /notebook/lib\)"):
        import_distributed()
