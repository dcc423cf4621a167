"""Every metric stands in the admins' page, by the name that Prometheus shows."""

from prometheus_client.parser import text_string_to_metric_families

from docs.markdown import ROOT
from penstock.backends.htcondor import figures as condor
from penstock.backends.slurm import figures, predict
from penstock.backends.slurm.predict import Place
from penstock.backends.sums import Sum
from penstock.telemetry.metrics import Measurement, Numbers, Seen, render


def test_every_metric_is_documented():
    told = [
        *figures.as_figures({("ada", "main", "running"): Sum()}),
        *predict.as_figures({Place(): 1.0}),
        *condor.as_figures({("ada", "idle"): Sum()}, {("claimed",): Sum()}),
    ]
    numbers = Numbers(
        version="1",
        clusters=[("running", "ada")],
        running=[Seen("c1", "ada")],
        measured=[Measurement("slurm", 0.0, 0, told)],
    )
    page = (ROOT / "docs/admin/monitoring.md").read_text()
    names = {
        sample.name
        for family in text_string_to_metric_families(render(numbers).decode())
        for sample in family.samples
        if not sample.name.startswith("process_")
    }
    assert len(names) > 15
    assert not {name for name in names if f"`{name}`" not in page}
