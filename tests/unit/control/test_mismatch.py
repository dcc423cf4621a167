"""Versions that do not match, as an agent reports them and as the user reads of them."""

from __future__ import annotations

import pytest

from penstock.control.mismatch import Mismatch, key, parse_mismatch, words
from penstock.model.errors import Invalid

OLD = {"python": "3.9.2", "distributed": "2023.12.1", "dask": "2023.12.1"}
OWN = {"python": "3.11.2", "distributed": "2026.8.0", "dask": "2026.8.0", "numpy": "2"}


def test_a_report_becomes_a_sentence():
    said = [
        {"who": "worker", "count": 3, "versions": OLD},
        {"who": "client", "count": 1, "versions": {}},
    ]
    found = parse_mismatch(said)
    assert words(found, OWN) == (
        "3 workers run Python 3.9.2, distributed 2023.12.1, dask 2023.12.1; 1 client runs unknown "
        "versions; the scheduler runs Python 3.11.2, distributed 2026.8.0, dask 2026.8.0. Tasks may "
        "fail or hang: use one environment for notebook, scheduler and workers."
    )
    assert words((), OWN) == ""
    assert parse_mismatch(None) == parse_mismatch([]) == ()


def test_the_number_is_no_news():
    one, many = (parse_mismatch([{"who": "worker", "count": n, "versions": OLD}]) for n in (1, 9))
    assert key(one) == key(many)
    assert key(one) != key([Mismatch("client", 1, OLD)])


def test_versions_cannot_forge_anything():
    evil = {"python": "3\n2026 ERROR <b>$(id)", "dask": "1" * 999}
    [found] = parse_mismatch([{"who": "worker", "count": 1, "versions": evil}])
    assert found.versions == {"python": "32026ERRORbid", "distributed": "", "dask": "1" * 40}


@pytest.mark.parametrize(
    "said",
    [
        7,
        {"a": 1},
        [7],
        [{"who": "worker", "count": 1}],
        [{"who": "admin", "count": 1, "versions": {}}],
        [{"who": "worker", "count": True, "versions": {}}],
        [{"who": "worker", "count": -1, "versions": {}}],
        [{"who": "worker", "count": 1.5, "versions": {}}],
        [{"who": "worker", "count": 10**9, "versions": {}}],
        [{"who": "worker", "count": 1, "versions": {"dask": 1}}],
        [{"who": "worker", "count": 1, "versions": {}}] * 11,
    ],
)
def test_nonsense_is_refused(said):
    with pytest.raises(Invalid, match="mismatch"):
        parse_mismatch(said)
