"""Which files of the gateway's machine users may have their HTCondor jobs take along: none by chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.model.errors import SettingsError
from penstock.settings import load

PROFILE = """
[backends.pool]
type = "htcondor"
domain = "example.org"
{backend}

[profiles.pool.scheduler]
backend = "pool"

[profiles.pool.workers.cpu]
backend = "pool"

[profiles.pool.workers.cpu.extras]
{extras}

[profiles.pool.options]
{option}
"""

IMAGE = 'container_image = { type = "string" }'


def loaded(tmp_path: Path, *, backend: str, option: str, extras: str = "") -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(PROFILE.format(backend=backend, option=option, extras=extras))
    load(path, {})


@pytest.mark.parametrize(
    "option",
    [
        IMAGE,
        'image = { type = "string", target = "workers.extras.container_image" }',
        'image = { type = "string", target = "group.cpu.extras.container_image" }',
        'image = { type = "string", target = "scheduler.extras.container_image" }',
        'more = { type = "string", target = "workers.extras.transfer_input_files" }',
        'lines = { type = "mapping", target = "workers.extras.submit" }',
    ],
)
def test_users_name_no_file_that_is_read_with_the_gateways_rights(
    tmp_path: Path, option: str
) -> None:
    for backend in ('act_by = "behalf"', 'act_by = "token"', 'act_by = "token"\nspool = true'):
        with pytest.raises(SettingsError, match="would be read with the gateway's rights"):
            loaded(tmp_path, backend=backend, option=option)
    for backend in ("", "spool = true", 'act_by = "behalf"\nspool = false'):
        loaded(tmp_path, backend=backend, option=option)


def test_what_the_site_has_thought_of_may_be_chosen(tmp_path: Path) -> None:
    token = 'act_by = "token"'
    for option in (
        'container_image = { type = "select", choices = ["/images/a.sif"] }',
        r"""container_image = { type = "string", pattern = "(docker://[a-z/:.]+)?" }""",
    ):
        loaded(tmp_path, backend=token, option=option)
    loaded(
        tmp_path, backend=token, option=IMAGE, extras='submit = { transfer_container = "false" }'
    )
    jobs = f'{token}\n[backends.pool.jobs.submit]\ntransfer_container = "false"'
    loaded(tmp_path, backend=jobs, option=IMAGE)
