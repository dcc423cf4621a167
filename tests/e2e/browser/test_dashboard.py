"""A real dashboard in a real browser, through the proxy."""

from __future__ import annotations

from selenium import webdriver

from rigs.chromium import complaints, until
from rigs.dashboards import Gateway
from rigs.dask_cluster import DaskCluster

RECTANGLES = """
let most = 0;
for (const document of Bokeh.documents)
  for (const model of document._all_models.values())
    if (model.type === 'ColumnDataSource' && 'worker_thread' in model.data)
      most = Math.max(most, model.data.worker_thread.length);
return most;
"""


def test_task_stream_draws_while_work_runs(
    browser: webdriver.Chrome, gateway: Gateway, dask: DaskCluster
) -> None:
    cluster = gateway.add("alice", dask.dashboard)
    browser.get(gateway.link(cluster, "alice"))
    until(lambda: browser.execute_script("return window.Bokeh?.documents?.length"), "Bokeh runs")
    dask.work(60)
    until(lambda: browser.execute_script(RECTANGLES) >= 60, "the task stream shows 60 tasks")
    browser.save_screenshot("/tmp/f-status.png")
    assert complaints(browser) == []
    assert browser.execute_script("return window.origin") == "null"
