"""What the doctor makes of a Slurm's configuration. Texts are real Slurm 22.05's."""

from __future__ import annotations

import pytest

from penstock.backends.insight import Verdict
from penstock.backends.slurm.site import (
    Partition,
    duration,
    judge_config,
    judge_refusal,
    judge_time,
    parse_config,
    parse_partitions,
    unreachable,
    wait_words,
)

CONFIG = """\
Configuration data as of 1795181892
AccountingStorageEnforce = none
JobSubmitPlugins        = (null)
MaxArraySize            = 501
MessageTimeout          = 3 sec
MinJobAge               = 300 sec
PrivateData             = none
SlurmUser               = slurm(64030)
SLURM_VERSION           = 22.05.8
SLURM_CONF              = /etc/slurm/slurm.conf

Slurmctld(primary) at vm is UP
"""


def judged(text: str = CONFIG, **changes: object) -> dict[str, tuple[Verdict, str]]:
    given = {
        "client": "slurm-wlm 22.05.8",
        "now": 1795181892.4,
        "timeout": 30.0,
        "period": 5.0,
        "user": "penstock",
        **changes,
    }
    found = judge_config(parse_config(text), **given)
    return {finding.what: (finding.verdict, finding.found) for finding in found}


def test_a_usual_slurm_is_well():
    assert judged() == {
        "version": (Verdict.GOOD, "Slurm 22.05.8"),
        "clock": (Verdict.GOOD, "as slurmctld's"),
        "MaxArraySize": (Verdict.GOOD, "501: so many workers in one submission"),
        "MessageTimeout": (Verdict.GOOD, "3 s; `timeout` is 30 s"),
    }


@pytest.mark.parametrize(
    ("old", "new", "what", "verdict", "words"),
    [
        ("= 22.05.8", "= 19.05.2", "version", Verdict.BAD, "newer than slurmctld's 19.05.2"),
        ("= 22.05.8", "= 23.11.1", "version", Verdict.GOOD, "tried with 22.05, 24.11"),
        ("= 22.05.8", "= 24.11.1", "version", Verdict.GOOD, "Slurm 24.11.1"),
        ("= 22.05.8", "= ", "version", Verdict.WARNING, "unknown"),
        ("1795181892", "1795181862", "clock", Verdict.WARNING, "30 s ahead of slurmctld's"),
        ("1795181892", "1795182892", "clock", Verdict.BAD, "1000 s behind slurmctld's"),
        ("= 501", "= 0", "MaxArraySize", Verdict.BAD, "switched off"),
        ("MaxArraySize ", "Other ", "MaxArraySize", Verdict.BAD, "not shown"),
        ("= 3 sec", "= 30 sec", "MessageTimeout", Verdict.BAD, "Slurm itself waits for 30 s"),
        ("= 300 sec", "= 2 sec", "MinJobAge", Verdict.WARNING, "forgotten after 2 s"),
        ("Plugins        = (null)", "Plugins = lua", "JobSubmitPlugins", Verdict.WARNING, "lua"),
        ("= none\nSlurmUser", "= accounts,jobs\nSlurmUser", "PrivateData", Verdict.BAD, "penstock"),
    ],
)
def test_what_does_not_suit_a_gateway(old, new, what, verdict, words):
    assert old in CONFIG
    found = judged(CONFIG.replace(old, new))[what]
    assert found[0] is verdict
    assert words in found[1]


def test_old_versions_were_never_tried():
    text = CONFIG.replace("= 22.05.8", "= 18.08.1")
    assert judged(text, client="")["version"][0] is Verdict.WARNING


def test_private_jobs_hide_nothing_from_root_and_slurm():
    hidden = CONFIG.replace("= none\nSlurmUser", "= jobs\nSlurmUser")
    for user in ("root", "slurm"):
        assert "PrivateData" not in judged(hidden, user=user)


PARTITIONS = """\
PartitionName=main AllowGroups=ALL Default=YES QoS=N/A DefaultTime=01:00:00 MaxTime=UNLIMITED State=UP
PartitionName=small AllowGroups=ALL Default=NO MaxTime=1-00:10:00 Nodes=n1 State=DRAIN
"""


def test_partitions():
    assert parse_partitions(PARTITIONS) == {
        "main": Partition("main", "UP", None, default=True),
        "small": Partition("small", "DRAIN", 87000.0, default=False),
    }
    assert parse_partitions("nonsense\n\n") == {}
    assert duration("2-00:00:00") == 172800.0
    assert duration("60") is None


def test_a_time_that_a_partition_does_not_allow():
    short = Partition("short", "UP", 600.0, default=False)
    assert judge_time("p", 600.0, short) is None
    assert judge_time("p", None, short) is None
    assert judge_time("p", 1e9, None) is None
    assert judge_time("p", 1e9, Partition("any", "UP", None, default=False)) is None
    found = judge_time("p", 1800.0, short)
    assert found is not None
    assert found.verdict is Verdict.BAD
    assert (
        found.found == "asks for 30 min, and partition short allows 10 min: such jobs wait for ever"
    )
    down = judge_time("p", 1.0, Partition("short", "DOWN", 600.0, default=False))
    assert down is not None
    assert down.verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("there is no scontrol in /usr/bin: is Slurm installed here?", "bin"),
        ("Slurm did not answer: Protocol authentication error", "munged"),
        ("Slurm did not answer: Could not establish a configuration source", "slurm.conf"),
        ("scontrol show config did not end in time", "hangs"),
        ("Slurm did not answer: Unable to contact slurm controller", "slurmctld running"),
        ("anything else", "`timeout` is 30 s"),
    ],
)
def test_what_to_do_when_nothing_answers(words, advice):
    found = unreachable(words, 30.0)
    assert found.verdict is Verdict.BAD
    assert advice in found.advice


def test_waits():
    words = [wait_words(seconds) for seconds in (-5.0, 0.4, 59.6, 3599.0, 90_000.0)]
    assert words == ["at once", "at once", "in 60 s", "in 60 min", "in 25 h"]


def test_what_is_refused_to_the_gateways_own_account_may_be_its_users() -> None:
    for words in ("Invalid account or account/partition", "User's group not permitted to use this"):
        own = judge_refusal("p", words, None)
        assert own.verdict is Verdict.WARNING
        assert "name a user who may: --user NAME" in own.advice
        assert own.found == f"asked as the gateway's own account: {words}"
        assert judge_refusal("p", words, "alice").verdict is Verdict.BAD
    assert judge_refusal("p", "invalid partition specified: x", None).verdict is Verdict.BAD
