"""Configurations of HTCondor, and what an admin is told about mistakes in them."""

from __future__ import annotations

import pytest

from penstock.model.errors import SettingsError
from penstock.settings.load import load

CONFIG = """
[auth]
type = "single"

[backends.pool]
type = "htcondor"
{backend}

[profiles.default.scheduler]
backend = "pool"

[profiles.default.workers.default]
backend = "pool"

[profiles.default.workers.default.extras]
{extras}
"""


def configured(tmp_path, backend="", extras=""):
    path = tmp_path / "penstock.toml"
    path.write_text(CONFIG.format(backend=backend, extras=extras))
    return load(path, {})


def test_what_may_be_said(tmp_path):
    settings = configured(
        tmp_path,
        'schedd = "a@b.org"\npool = "cm.org:9618"\nact_by = "token"\ndomain = "b.org"',
        'accounting_group = "g.x"\nlifetime = 600\nattributes = { isDaskJob = true }',
    )
    assert settings.backends["pool"].token_lifetime == 86400


@pytest.mark.parametrize(
    ("backend", "extras", "words"),
    [
        ('schedd = "a b"', "", "backends.pool.schedd: must be a name of letters"),
        ('act_by = "magic"', "", "backends.pool.act_by"),
        ('act_by = "token"', "", "act_by = 'token' needs domain"),
        ('pool = "cm.org"', "", "pool needs schedd, the name of a schedd there"),
        ("", "acounting_group = 'x'", "no setting of HTCondor jobs; did you mean 'accounting_gro"),
        ("", "requirements = '('", "extras.requirements: must be one ClassAd expression"),
        ("", "submit = {queue = '3'}", "extras.submit: queue is set by the gateway"),
    ],
)
def test_what_may_not(tmp_path, backend, extras, words):
    with pytest.raises(SettingsError) as caught:
        configured(tmp_path, backend, extras)
    assert words in str(caught.value)
