from __future__ import annotations

import pytest

from penstock.agent.endings import Ring, exit_code, explain, oom_count, oom_files


class TestRing:
    def test_keeps_the_last_bytes(self) -> None:
        ring = Ring(10)
        for chunk in (b"0123", b"4567", b"89abc"):
            ring.add(chunk)
        assert ring.text() == "3456789abc"

    def test_a_chunk_larger_than_the_ring(self) -> None:
        ring = Ring(4)
        ring.add(b"old")
        ring.add(b"0123456789")
        assert ring.text() == "6789"

    def test_text_is_never_longer_in_bytes(self) -> None:
        ring = Ring(10)
        ring.add(b"\xff" * 10)  # each becomes a replacement character of three bytes
        assert len(ring.text().encode()) <= 10
        ring.add("ä".encode() * 3 + b"x" * 5)  # cuts one character in the middle
        assert ring.text() == "ää" + "x" * 5 or ring.text().endswith("ääxxxxx")
        assert len(ring.text().encode()) <= 10


def test_signals_read_as_128_plus_n() -> None:
    assert [exit_code(status) for status in (0, 3, -9, -15)] == [0, 3, 137, 143]


@pytest.mark.parametrize(
    ("code", "said", "kills", "reason"),
    [
        (1, "no distributed here", 0, "no distributed here"),
        (137, "", 0, "killed (SIGKILL), probably out of memory"),
        (137, "", 1, "killed by the kernel: out of memory"),
        (139, "", 0, "killed (SIGSEGV)"),
        (143, "", 3, "killed (SIGTERM)"),
        (3, "", 0, "exited with code 3"),
        (255, "", 0, "exited with code 255"),
    ],
)
def test_explain(code: int, said: str, kills: int, reason: str) -> None:
    assert explain(code, said, kills) == reason


def test_where_the_kernel_counts() -> None:
    assert list(oom_files("0::/user.slice/job_7\n")) == [
        "/sys/fs/cgroup/user.slice/job_7/memory.events"
    ]
    both = "9:cpu,cpuacct:/x\n4:memory:/slurm/uid_1/job_7\n0::/\nnonsense\n"
    assert list(oom_files(both)) == [
        "/sys/fs/cgroup/memory/slurm/uid_1/job_7/memory.oom_control",
        "/sys/fs/cgroup/memory.events",
    ]


def test_what_the_kernel_counted() -> None:
    assert oom_count("low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 1\n") == 3
    assert oom_count("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n") == 1
    assert oom_count("") == 0
