"""What is understood of sudo's, the helper's and slurmrestd's answers, and what neither is told."""

from __future__ import annotations

import ast
import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backends.command import Done
from penstock.backends.slurm import helper, rest_replies, script, sudo
from penstock.backends.slurm.tokens import TokenCommand, TokenFile
from penstock.model.errors import Absent, Rejected, Unavailable, Uncertain
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Resources, Role
from penstock.settings.backends import SlurmBackendSettings, SlurmJobSettings
from penstock.settings.slurm_rest import SlurmRestSettings
from penstock.settings.slurm_rest_words import OLD, VERSIONS, fields

ID = BatchId("0123abcd", "f" * 32, 3)
EVERYTHING = SlurmJobSettings(
    partition="p",
    account="a",
    qos="q",
    reservation="r",
    constraint="c",
    gres="fpga:1",
    time=90.0,
    nodelist="n1",
    exclude="n2",
    licenses="l",
)


def words_of_everything(**settings: object) -> list[str]:
    batch = Batch(
        id=ID,
        owner="alice",
        role=Role.WORKER,
        count=3,
        command=("python3",),
        resources=Resources(cores=2, memory=2**30, gpus=1),
    )
    return script.arguments(batch, EVERYTHING.model_copy(update=settings))


# --- the same options everywhere -----------------------------------------------------------------


def a_helper(**site: object) -> helper.Helper:
    return helper.Helper({**helper.SITE_DEFAULTS, **site}, {}, b"")


@pytest.mark.parametrize("each", [1, 4])
def test_the_helper_takes_all_that_the_gateway_says(each):
    for word in words_of_everything(workers_per_job=each):
        name, value = a_helper()._option(word)
        assert word in (f"--{name}={value}", f"--{name}")
        if name == "comment":
            assert a_helper()._tag(value, helper.COMMENT) == value


def test_slurmrestd_can_be_told_all_that_the_gateway_says():
    assert fields(words_of_everything(), OLD) == {
        "array": "0-2",
        "name": f"dask-worker-{ID.cluster}",
        "comment": ID.tag,
        "no_requeue": True,
        "current_working_directory": "/",
        "standard_input": "/dev/null",
        "standard_output": "/dev/null",
        "nodes": 1,
        "tasks": 1,
        "cpus_per_task": 2,
        "memory_per_node": 1024,
        "gres": "gpu:1,fpga:1",
        "time_limit": 2,
        "partition": "p",
        "account": "a",
        "qos": "q",
        "reservation": "r",
        "constraints": "c",
        "nodelist": "n1",
        "exclude_nodes": "n2",
        "licenses": "l",
    }


@pytest.mark.parametrize("version", [version for version in VERSIONS if version != OLD])
def test_newer_ones_are_told_the_same(version):
    flags = ["--spread-job", "--kill-on-invalid-dep", "--spread-job"]
    assert fields([*words_of_everything(), *flags, "--nice=10"], version) == {
        "array": "0-2",
        "name": f"dask-worker-{ID.cluster}",
        "comment": ID.tag,
        "requeue": False,
        "current_working_directory": "/",
        "standard_input": "/dev/null",
        "standard_output": "/dev/null",
        "nodes": "1",
        "tasks": 1,
        "cpus_per_task": 2,
        "memory_per_node": {"set": True, "number": 1024},
        "tres_per_node": "gres/gpu:1,gres/fpga:1",
        "time_limit": {"set": True, "number": 2},
        "partition": "p",
        "account": "a",
        "qos": "q",
        "reservation": "r",
        "constraints": "c",
        "required_nodes": ["n1"],
        "excluded_nodes": ["n2"],
        "licenses": "l",
        "flags": ["SPREAD_JOB", "KILL_INVALID_DEPENDENCY"],
        "nice": 10,
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "word", ["--exclusive", "--mail-user=x", "--nodes=1-2", "--mem=1G", "--time=1:00", "x", "--qos"]
)
def test_what_slurmrestd_cannot_be_told_is_named(word, version):
    with pytest.raises(ValueError, match=word):
        fields([word], version)


def test_what_only_one_version_can_be_told():
    assert fields(["--begin=now+1hour"], OLD) == {"begin_time": "now+1hour"}
    with pytest.raises(ValueError, match="--begin=now"):
        fields(["--begin=now+1hour"], VERSIONS[0])


# --- the helper ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        *("--wrap=x", "--uid=0", "--bbf=/x", "--export-file=x", "--output=/x", "--chdir", "-J"),
        *("--parsable=1", "--get-user-env", "--clusters=x", "--mail-user=x", "--propagate", "x"),
        *("--qos=a\nb", 3),
    ],
)
def test_the_helper_refuses_other_options(word):
    with pytest.raises(helper.Refused):
        a_helper()._option(word)


@pytest.mark.parametrize("option", ["nodelist", "exclude"])
def test_the_helper_has_sbatch_read_no_file(option):
    assert a_helper()._option(f"--{option}=n[1-3],n7") == (option, "n[1-3],n7")
    for path in ("/home/bob/.ssh/id_rsa", "./x", "../x"):
        with pytest.raises(helper.Refused, match="sbatch would read a file"):
            a_helper()._option(f"--{option}={path}")


def test_root_may_allow_more_options_and_fewer_gateways():
    assert a_helper(options=["mail-user"])._option("--mail-user=x") == ("mail-user", "x")
    assert a_helper(gateways=["0123abcd"])._tag(ID.tag, helper.TAG) == ID.tag
    with pytest.raises(helper.Refused, match="0123abcd is not one of this site's"):
        a_helper(gateways=["ffffffff"])._tag(ID.tag, helper.TAG)


@given(st.text())
def test_only_tags_are_tags(text):
    for form in (helper.TAG, helper.COMMENT):
        with pytest.raises(helper.Refused):
            a_helper()._tag(text, form)


def test_a_tag_is_what_the_core_calls_one():
    assert a_helper()._tag(ID.tag, helper.TAG) == ID.tag
    assert a_helper()._tag(f"{ID.tag} 4x10", helper.COMMENT)
    for wrong in (f"{ID.tag}/..", f"{ID.tag}\n", f" {ID.tag}", f"{ID.tag} 4x10"):
        with pytest.raises(helper.Refused):
            a_helper()._tag(wrong, helper.TAG)


def test_the_helper_runs_alone_and_not_as_root():
    done = subprocess.run(
        [sys.executable, "-IS", helper.__file__], input=b"{}", capture_output=True, timeout=60
    )
    told = json.loads(done.stdout)
    assert told["version"] == helper.VERSION == sudo.VERSION
    words = "never runs as root" if os.getuid() == 0 else "cannot be understood"
    assert words in told["refused"]
    text = Path(helper.__file__).read_text()
    assert text.startswith("#!/usr/bin/python3 -IS\n")
    ast.parse(text, feature_version=(3, 7))  # the oldest that this Python knows how to be


# --- sudo ----------------------------------------------------------------------------------------


def told(**answer: object) -> Done:
    return Done(0, json.dumps({"version": sudo.VERSION, **answer}).encode(), "")


def test_answers_of_the_helper():
    assert sudo.read_answer(told(code=1, errors="sbatch: error: x"), "bob") == sudo.Answer(
        1, "sbatch: error: x"
    )
    assert sudo.read_answer(told(code=None), "bob").code is None
    assert sudo.read_answer(Done(None, b"", ""), "bob").code is None
    with pytest.raises(Rejected, match="refused: no"):
        sudo.read_answer(told(refused="no"), "bob")
    with pytest.raises(Unavailable, match="there is no sbatch"):
        sudo.read_answer(told(code=1, unavailable="there is no sbatch in /bin"), "bob")
    with pytest.raises(Unavailable, match="of version 0"):
        sudo.read_answer(Done(0, b'{"version": 0, "code": 0}', ""), "bob")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("sudo: a password is required", Rejected),
        ("Sorry, user g is not allowed to execute '/x' as bob on host.", Rejected),
        ("sudo: /usr/local/libexec/penstock/penstock-slurm: command not found", Unavailable),
        ("sudo: The \"no new privileges\" flag is set, which prevents sudo", Unavailable),
        ("sudo: unable to open /etc/sudoers: Permission denied", Unavailable),
        ("", Unavailable),
    ],
)  # fmt: skip
def test_words_of_sudo(words, kind):
    for output in (b"", b"[]", b"Traceback"):
        with pytest.raises(kind) as caught:
            sudo.read_answer(Done(1, output, words), "bob")
        assert words.removeprefix("sudo: ") in str(caught.value)
        assert "sudo: sudo:" not in str(caught.value)
        assert "docs/admin/slurm-users.md" in str(caught.value)


# --- slurmrestd ----------------------------------------------------------------------------------


def reply(status: int, *errors: object, **body: object) -> rest_replies.Reply:
    return rest_replies.read_reply(status, json.dumps({"errors": list(errors), **body}).encode())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(200, job_id=7), None),
        (reply(200, {"error": "Job is in held state"}, job_id=7), None),
        (reply(200), Uncertain),
        (reply(500, {"error": "Invalid partition name specified", "error_code": 2000}), Rejected),
        (reply(400, {"description": 'Unknown key "x"', "error": "Failure"}), Rejected),
        (
            reply(500, {"error": "Unable to contact slurm controller (connect failure)"}),
            Unavailable,
        ),
        (reply(500, {"error": "Socket timed out on send/recv operation"}), Uncertain),
        (reply(500, {"error": "Zero Bytes were transmitted or received"}), Uncertain),
        (reply(500, {"error": "Unspecified error", "error_number": -1}), Uncertain),
        (rest_replies.read_reply(401, b"Authentication failure"), Absent),
        (rest_replies.read_reply(404, b"Unable find requested URL."), Unavailable),
        (rest_replies.read_reply(502, b"<html>Bad gateway</html>"), Uncertain),
        (rest_replies.read_reply(500, b"[1]"), Uncertain),
    ],
)
def test_answers_to_a_submission(answer, kind):
    failure = rest_replies.submit_error(answer)
    assert type(failure) is (type(None) if kind is None else kind)


def page_list(*versions: str) -> rest_replies.Reply:
    pages = [f"/slurm/{version}/{page}" for version in versions for page in ("job/submit", "ping/")]
    return reply(200, paths=dict.fromkeys([*pages, "/slurmdb/v0.0.99/job/submit", "/", "x"]))


def test_the_best_version_of_both_is_spoken():
    assert rest_replies.version_of(page_list("v0.0.36", "v0.0.38")) == "v0.0.38"
    assert rest_replies.version_of(page_list("v0.0.40", "v0.0.42", "v0.0.41")) == "v0.0.42"
    assert rest_replies.version_of(page_list("v0.0.44", "v0.0.42", "v0.0.46")) == "v0.0.44"
    for none in (page_list("v0.0.37", "v0.0.99"), reply(200, paths=7), reply(401)):
        assert rest_replies.version_of(none) is None
    assert rest_replies.versions(page_list("v0.0.43", "v0.0.37")) == ["v0.0.37", "v0.0.43"]


def newer(status: int, what: str, why: str, **body: object) -> rest_replies.Reply:
    return reply(status, {"description": what, "error_number": 1, "error": why}, **body)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            newer(500, "Batch job submission failed", "Invalid partition name specified"),
            Rejected,
            "",
        ),
        (
            newer(511, "Batch job submission failed", "Protocol authentication error"),
            Absent,
            "token",
        ),
        (
            newer(502, "Batch job submission failed", "Unable to contact slurm controller"),
            Unavailable,
            "submission failed: Unable",
        ),
        (newer(504, "Batch job submission failed", "Socket timed out on send"), Uncertain, ""),
        (newer(500, 'Unknown flag "X"', "Data parser unable", job_id=4), Uncertain, "took the job"),
    ],
)
def test_answers_of_newer_ones_to_a_submission(answer, kind, words):
    failure = rest_replies.submit_error(answer)
    assert type(failure) is kind
    assert words in str(failure)


def not_killed(words: str) -> rest_replies.Reply:
    error = {"string": words, "code": 1, "message": words}
    body = {"errors": [], "status": [{"error": error, "step_id": "1_0"}]}
    return rest_replies.read_reply(200, json.dumps(body).encode())


def test_answers_of_newer_ones_to_a_cancellation():
    for words in ("Job/step already completing or completed", "Invalid job id specified"):
        assert rest_replies.cancel_error(not_killed(words)) is None
    refused = rest_replies.cancel_error(not_killed("Access/permission denied"))
    assert "Access/permission denied" in str(refused)
    failed = rest_replies.cancel_error(
        newer(500, "Signal request failed", "Operation not permitted")
    )
    assert "Signal request failed: Operation not permitted" in str(failed)


def test_answers_to_a_cancellation():
    over = reply(500, {"description": "unable to kill JobId=3: Invalid job id specified"})
    assert rest_replies.cancel_error(reply(200)) is None
    assert rest_replies.cancel_error(over) is None
    denied = rest_replies.cancel_error(
        reply(500, {"description": "unable: Access/permission denied"})
    )
    assert "permission denied" in str(denied)
    refused = rest_replies.cancel_error(rest_replies.read_reply(401, b"Authentication failure"))
    assert type(refused) is Unavailable
    assert "token" in str(refused)


def token(**claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


async def test_a_command_gives_a_token_for_each_user_until_its_end(tmp_path):
    for name, seconds in (("alice", 3600), ("bob", 20)):
        text = token(sun=name, exp=int(time.time()) + seconds)
        (tmp_path / name).write_text(f"SLURM_JWT={text}\n")
    tokens = TokenCommand(("/bin/cat", f"{tmp_path}/{{user}}"), timeout=20)
    first = await tokens.of("alice")
    assert first == (tmp_path / "alice").read_text().strip().removeprefix("SLURM_JWT=")
    short = await tokens.of("bob")
    for name in ("alice", "bob"):
        (tmp_path / name).write_text(token(sun="new", exp=int(time.time()) + 3600))
    assert await tokens.of("alice") == first
    assert await tokens.of("bob") != short
    (tmp_path / "carol").write_text("nothing")
    for name, words in (("carol", "is no token of Slurm"), ("dave", "No such file")):
        with pytest.raises(Absent, match=words):  # theirs alone: others go on
            await tokens.of(name)


async def test_a_token_that_others_can_read_is_not_used(tmp_path):
    path = tmp_path / "token"
    path.write_text(token())
    path.chmod(0o600)
    assert await TokenFile(path).of("alice") == token()
    path.chmod(0o604)
    with pytest.raises(Unavailable, match=f"chmod 600 {path}"):
        await TokenFile(path).of("alice")


# --- settings ------------------------------------------------------------------------------------

REST = {"url": "unix:/run/slurmrestd.sock", "token_file": "/etc/penstock/token"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://slurm.example.org:6820"}, "in the clear"),
        ({"url": "slurm:6820"}, "must be"),
        ({"url": "http://127.0.0.1:x"}, "must be"),
        ({"url": "https://h/path"}, "must be"),
        ({"token_file": None}, "either token_file or token_command"),
        ({"token_command": ["/bin/t", "{user}"]}, "either token_file or token_command"),
        ({"token_file": None, "token_command": ["t", "{user}"]}, "absolute path"),
        ({"token_file": None, "token_command": ["/bin/t"]}, "{user}"),
    ],
)
def test_settings_of_slurmrestd_that_cannot_be(changes, words):
    with pytest.raises(ValueError, match=words):
        SlurmRestSettings.model_validate({**REST, **changes})


@pytest.mark.parametrize("url", ["http://127.0.0.1:6820", "http://[::1]:1", "https://h:1/"])
def test_settings_of_slurmrestd_that_can_be(url):
    assert SlurmRestSettings.model_validate({**REST, "url": url}).url == url.rstrip("/")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "needs a table rest"),
        ({"rest": REST, "jobs": {"arguments": ["--exclusive"]}}, "--exclusive.*cannot be said"),
        ({"rest": REST, "jobs": {"workers_per_job": 2}}, "workers_per_job"),
    ],
)
def test_jobs_that_slurmrestd_cannot_start(section, words):
    with pytest.raises(ValueError, match=words):
        SlurmBackendSettings.model_validate({"type": "slurm", "act_by": "slurmrestd", **section})
