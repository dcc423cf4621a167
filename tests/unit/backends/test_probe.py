"""The doctor's job: what it finds on a node, and what its end tells."""

from __future__ import annotations

import http.server
import json
import socket
import threading

import pytest

from penstock.backends import probe, probe_job
from penstock.backends.fake import FakeBackend
from penstock.backends.insight import Verdict
from penstock.backends.probe import Probe, judge, kinds, overdue
from penstock.model.demand import Demand
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Job, Phase, Resources

PROBE = Probe("ada", ["https://gateway:8000"])
DEMAND = Demand("profile a, scheduler", "/opt/python", Resources(), Resources())


def ended(code: int, exit: Exit = Exit.FAILED, reason: str = "") -> Job:
    batch = BatchId("0" * 8, "0" * 32, 0)
    return Job(batch, 0, "1_0", "ada", Phase.EXITED, exit, code, reason, node="n1")


def code(far: int, fit: int) -> int:
    return probe_job.BASE + far * probe_job.PYTHONS + fit


def test_codes_are_nobody_elses():
    codes = [code(far, fit) for far in range(6) for fit in range(4)]
    assert len(set(codes)) == 24
    assert min(codes) > 2
    assert max(codes) < 125


def test_a_good_end():
    found = judge(ended(0, Exit.DONE), DEMAND, PROBE)
    assert found.verdict is Verdict.GOOD
    assert found.what == "job of profile a, scheduler on n1"
    assert found.found == "reaches https://gateway:8000; /opt/python has distributed"


@pytest.mark.parametrize(
    ("far", "fit", "verdict", "words", "advice"),
    [
        (probe_job.SOME, 0, Verdict.WARNING, "only some", "agent_url"),
        (probe_job.UNREACHED, 0, Verdict.BAD, "cannot reach the gateway at https", "firewalls"),
        (probe_job.UNRESOLVED, 0, Verdict.BAD, "does not know the host", "resolve"),
        (probe_job.UNTRUSTED, 0, Verdict.BAD, "does not trust the certificate", "ca_file"),
        (probe_job.STRANGE, 0, Verdict.BAD, "not this gateway", "agent_url"),
        (0, probe_job.ABSENT, Verdict.BAD, "/opt/python, has no dask", "install"),
        (0, probe_job.OLD, Verdict.BAD, "too old", "3.8"),
        (probe_job.SOME, probe_job.BROKEN, Verdict.BAD, "cannot import", "repair"),
    ],
)
def test_other_ends(far, fit, verdict, words, advice):
    found = judge(ended(code(far, fit)), DEMAND, PROBE, "the\noutput")
    assert found.verdict is verdict
    assert words in found.found
    assert found.found.endswith("(the output)")
    assert advice in found.advice


def test_ends_that_are_not_the_probes():
    found = judge(ended(127, reason="its Python is not there on the node"), DEMAND, PROBE)
    assert (found.verdict, found.found) == (Verdict.BAD, "its Python is not there on the node")
    assert judge(ended(9, Exit.LOST), DEMAND, PROBE).found == "ended as lost"


def test_jobs_that_do_not_end():
    unseen = overdue(None, DEMAND, 60, "Slurm did not answer")
    assert "cannot be seen after 60 s (Slurm did not answer)" in unseen.found
    assert "comments" in unseen.advice
    batch = BatchId("0" * 8, "0" * 32, 0)
    waits = overdue(Job(batch, 0, "1", "ada", Phase.QUEUED, reason="Priority"), DEMAND, 60, "")
    assert (waits.verdict, waits.found) == (
        Verdict.WARNING,
        "still waits in the queue after 60 s: Priority",
    )
    assert overdue(Job(batch, 0, "1", "ada", Phase.HELD), DEMAND, 60, "").verdict is Verdict.BAD


def test_a_kind_is_probed_once():
    def demand(name: str, python: str, **extras: object) -> Demand:
        return Demand(name, python, Resources(), Resources(), extras)

    some = [demand("a", "x"), demand("b", "x"), demand("c", "y"), demand("d", "x", partition="p")]
    assert [each.name for each in kinds(some)] == ["a", "c", "d"]


async def test_not_more_than_some_are_probed_and_the_others_named():
    """Against a batch system that takes everything and runs nothing."""
    many = [Demand(f"p{n}", str(n), Resources(), Resources()) for n in range(probe.MOST + 2)]
    backend = FakeBackend()
    found = [f async for f in probe.run(backend, "0" * 8, many, PROBE, 0.1)]
    assert found[0].found == f"2 kinds of {probe.MOST + 2} are not tried, as those of p8, p9"
    assert [f.what for f in found[1:]] == [f"job of p{n}" for n in range(probe.MOST)]
    assert not any(job.alive for job in (await backend.observe()).jobs)


ANSWERS = {"/a/api/version": b'{"name": "penstock"}', "/b/api/version": b"[]"}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = ANSWERS.get(self.path)
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url():
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_the_job_finds(url, monkeypatch, capsys):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # no way for the agent either
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = f"http://127.0.0.1:{taken.getsockname()[1]}"

    def run(*servers: str) -> int:
        return probe_job.main(json.dumps({"servers": servers, "ca": None}))

    assert run(f"{url}/a") == 0
    assert "distributed 2" in capsys.readouterr().out
    assert run(free, f"{url}/a") == code(probe_job.SOME, probe_job.FIT)
    assert run(f"{url}/b") == code(probe_job.STRANGE, probe_job.FIT)
    assert run(f"{url}/c") == code(probe_job.STRANGE, probe_job.FIT)
    assert run(free) == code(probe_job.UNREACHED, probe_job.FIT)
    assert run("http://nowhere.invalid") == code(probe_job.UNRESOLVED, probe_job.FIT)
    assert run(url.replace("http:", "https:")) == code(probe_job.UNTRUSTED, probe_job.FIT)
    assert f"{free}: " in capsys.readouterr().out
