"""What Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from penstock.backends.insight import Figure
from penstock.telemetry.metrics import Lag, Measurement, Numbers, Seen, render


def samples(numbers: Numbers) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values in the order of their names.

    Raises for what is not the text format.
    """
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(render(numbers).decode())
        for sample in family.samples
    }


def test_every_number_has_its_place():
    seen = Seen(
        cluster="c1",
        user="ada",
        workers=3,
        clients=2,
        threads=6,
        worker_cpu=1.5,
        worker_memory=2**30,
        worker_memory_limit=2**31,
        scheduler_cpu=0.25,
        scheduler_memory=2**28,
        tasks={"processing": 7, "made up by somebody": 9},
    )
    found = samples(
        Numbers(
            version="1.2",
            clusters=[("running", "ada"), ("running", "ada"), ("failed", "bob")],
            running=[seen],
            door_restarts=4,
            lag=0.5,
        )
    )
    assert found["penstock_info", "1.2"] == 1
    assert found["penstock_clusters", "running", "ada"] == 2
    assert found["penstock_clusters", "failed", "bob"] == 1
    assert found["dask_scheduler_workers", "c1", "ada"] == 3
    assert found["dask_scheduler_clients", "c1", "ada"] == 2
    assert found["penstock_worker_threads", "c1", "ada"] == 6
    assert found["penstock_worker_cpu_cores", "c1", "ada"] == 1.5
    assert found["penstock_worker_memory_bytes", "c1", "ada"] == 2**30
    assert found["penstock_worker_memory_limit_bytes", "c1", "ada"] == 2**31
    assert found["penstock_scheduler_cpu_cores", "c1", "ada"] == 0.25
    assert found["penstock_scheduler_memory_bytes", "c1", "ada"] == 2**28
    assert found["penstock_tasks", "c1", "processing", "ada"] == 7
    assert found["penstock_tasks", "c1", "erred", "ada"] == 0
    assert not any("made up by somebody" in name for name in found)
    assert found["penstock_door_restarts_total",] == 4
    assert found["penstock_event_loop_lag_seconds",] == 0.5
    assert found["process_resident_memory_bytes",] > 0


def test_names_of_users_cannot_break_the_format():
    user = 'a"b\\c\nd{}=,'
    found = samples(Numbers("1", [("running", user)], [Seen("c1", user, workers=1)]))
    assert found["dask_scheduler_workers", "c1", user] == 1


def test_the_lag_is_the_worst_of_late():
    lag = Lag(window=3)
    assert lag.worst == 0.0
    for seconds in (5.0, 0.1, 0.2, 0.3):
        lag.note(seconds)
    assert lag.worst == 0.3
    lag.note(-1.0)
    assert lag.worst == 0.3


def test_numbers_of_batch_systems_bear_their_name_and_age():
    jobs = Figure("penstock_x_jobs", "Jobs.", 3, {"user": 'a"\n', "partition": "main"})
    measured = [Measurement("x", 1.5, 2, [jobs]), Measurement("y", None, 0)]
    found = samples(Numbers("1", measured=measured))
    labels = {"backend": "x", "user": 'a"\n', "partition": "main"}
    assert found["penstock_x_jobs", "x", "main", labels["user"]] == 3
    assert found["penstock_figures_age_seconds", "x"] == 1.5
    assert ("penstock_figures_age_seconds", "y") not in found
    assert found["penstock_figures_failures_total", "x"] == 2
    assert found["penstock_figures_failures_total", "y"] == 0
