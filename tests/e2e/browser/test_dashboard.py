"""A real dashboard in a real browser, through the proxy."""

from __future__ import annotations

import aiohttp
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from rigs.chromium import chromium, complaints, until
from rigs.dashboards import PASSWORDS, Gateway, LoopThread, basic, running_gateway, running_site
from rigs.dask_cluster import DaskCluster
from rigs.sites import page

TASKS_DRAWN = """
let most = 0;
for (const document of window.Bokeh?.documents ?? [])
  for (const model of document._all_models.values())
    if (model.type === 'ColumnDataSource' && 'worker_thread' in model.data)
      most = Math.max(most, model.data.worker_thread.length);
return most;
"""
DOCUMENTS = "return window.Bokeh?.documents?.length"
GREEN_PIXELS = """
const found = [];
const visit = root => { for (const each of root.querySelectorAll('*')) {
  if (each.tagName === 'CANVAS') found.push(each);
  if (each.shadowRoot) visit(each.shadowRoot); } };
visit(document);
let count = 0;
for (const canvas of found) {
  if (!canvas.width || !canvas.height) continue;
  const data = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] > 0 && data[i + 1] > data[i] + 60 && data[i + 1] > data[i + 2]) count++;
}
return count;
"""


def text_of(browser: webdriver.Chrome) -> str:
    # Not by an element, which goes stale when the page changes meanwhile.
    text: str = browser.execute_script("return document.body?.innerText ?? ''")
    return text


def log_in(browser: webdriver.Chrome, user: str, password: str | None = None) -> None:
    browser.find_element(By.NAME, "user").send_keys(user)
    browser.find_element(By.NAME, "password").send_keys(password or PASSWORDS[user])
    browser.find_element(By.TAG_NAME, "button").click()


@pytest.mark.parametrize("gateway", ["127.0.0.1", "gateway.example.org"], indirect=True)
def test_task_stream_draws_while_work_runs(
    browser: webdriver.Chrome, gateway: Gateway, dask: DaskCluster
) -> None:
    cluster = gateway.add("bob", dask.dashboard)
    browser.get(gateway.link(cluster, "bob"))
    until(lambda: browser.execute_script(DOCUMENTS), "Bokeh runs")
    before = browser.execute_script(TASKS_DRAWN)
    with dask.working(80):
        until(lambda: browser.execute_script(TASKS_DRAWN) > before, "tasks show while work runs")
    until(lambda: browser.execute_script(TASKS_DRAWN) >= 80, "all 80 tasks show")
    until(lambda: browser.execute_script(GREEN_PIXELS) > 1000, "tasks are painted")
    assert browser.execute_script("return window.origin") == "null"
    assert complaints(browser) == []


def test_pages_hang_together(
    browser: webdriver.Chrome, gateway: Gateway, dask: DaskCluster
) -> None:
    cluster = gateway.add("bob", dask.dashboard)
    browser.get(gateway.link(cluster, "bob"))
    until(lambda: browser.execute_script(DOCUMENTS), "Bokeh runs")
    browser.find_element(By.LINK_TEXT, "Workers").click()
    until(lambda: browser.current_url.endswith("/workers"), "the link leads to the workers")
    until(lambda: browser.execute_script(DOCUMENTS), "the workers' page runs")
    browser.refresh()
    until(lambda: browser.execute_script(DOCUMENTS), "it runs after a reload")
    base = browser.current_url.removesuffix("/workers")
    for path in ("tasks", "system", "profile", "graph", "groups", "individual-task-stream"):
        browser.get(f"{base}/{path}")
        until(lambda: browser.execute_script(DOCUMENTS), f"{path} runs")
    assert complaints(browser) == []


def test_info_pages_and_the_cluster_map_work(
    browser: webdriver.Chrome, gateway: Gateway, dask: DaskCluster
) -> None:
    cluster = gateway.add("bob", dask.dashboard)
    browser.get(gateway.link(cluster, "bob"))
    browser.find_element(By.LINK_TEXT, "Info").click()
    until(lambda: dask.worker in text_of(browser), "the table of workers")
    browser.find_element(By.LINK_TEXT, dask.worker).click()
    until(lambda: "%3A%2F%2F" in browser.current_url, "a worker's page, by its escaped address")
    assert dask.worker in text_of(browser)
    base = browser.current_url.partition("/info/")[0]
    browser.get(f"{base}/statics/individual-cluster-map.html")
    circles = "return document.querySelectorAll('#vis circle').length"
    until(
        lambda: browser.execute_script(circles) >= 3, "scheduler and workers, by the event stream"
    )
    # The info pages take a style sheet from the net, which a test must do without.
    assert [line for line in complaints(browser) if "cdnjs" not in line] == []


def test_a_second_user_sees_nothing(
    browser: webdriver.Chrome, gateway: Gateway, dask: DaskCluster
) -> None:
    cluster = gateway.add("bob", dask.dashboard)
    seen = []
    for name in (cluster.name, "f" * 32):
        browser.get(f"{gateway.base}/clusters/{name}/status")
        log_in(browser, "mallory")
        until(lambda: "No such cluster" in browser.title, "mallory learns nothing")
        seen.append(browser.page_source)
    assert seen[0] == seen[1]
    assert browser.get_cookies() == []


def test_an_expired_link_leads_to_a_login_that_works(
    browser: webdriver.Chrome, gateway: Gateway, dask: DaskCluster
) -> None:
    cluster = gateway.add("bob", dask.dashboard)
    link = gateway.link(cluster, "bob")
    gateway.ahead = 3601
    browser.get(link)
    assert "Log in" in browser.title
    log_in(browser, "bob", "wrong")
    until(lambda: "is wrong" in text_of(browser), "the form says so")
    log_in(browser, "bob")
    until(lambda: browser.execute_script(DOCUMENTS), "Bokeh runs")
    # The browser said 401 twice, for the login pages themselves.
    assert all("401" in line for line in complaints(browser))


def test_the_address_of_a_page_is_no_use_to_another_browser(
    browser: webdriver.Chrome, gateway: Gateway, dask: DaskCluster
) -> None:
    cluster = gateway.add("bob", dask.dashboard)
    browser.get(gateway.link(cluster, "bob"))
    leaked = browser.current_url
    with chromium() as other:
        other.get(leaked)
        assert "Log in" in other.title


def test_a_page_left_open_over_night_renews_its_address(
    browser: webdriver.Chrome, gateway: Gateway, dask: DaskCluster
) -> None:
    cluster = gateway.add("bob", dask.dashboard)
    browser.get(gateway.link(cluster, "bob"))
    before = browser.current_url
    gateway.ahead = 6 * 3600
    browser.refresh()
    assert browser.current_url != before
    until(lambda: browser.execute_script(DOCUMENTS), "Bokeh runs")


def test_a_configured_site_shows_panes_in_frames_and_no_other_does(
    browser: webdriver.Chrome, loop: LoopThread, dask: DaskCluster
) -> None:
    """As JupyterLab does: another site, the link's base, and a pane's path."""
    frames: dict[str, str] = {}
    body = page(lambda: f'<iframe src="{frames["pane"]}" width=800 height=600></iframe>')
    with running_site(loop, {"/": body}) as lab_port:
        lab, stranger = f"http://localhost:{lab_port}", f"http://127.0.0.1:{lab_port}"
        with running_gateway(loop, frame_ancestors=("'self'", lab)) as gateway:
            cluster = gateway.add("bob", dask.dashboard)
            base = gateway.link(cluster, "bob").removesuffix("/status")
            frames["pane"] = f"{base}/individual-task-stream"
            browser.get(lab)
            browser.switch_to.frame(0)
            until(lambda: browser.execute_script(DOCUMENTS), "the pane runs")
            assert complaints(browser) == []
            browser.get(stranger)
            browser.switch_to.frame(0)
            assert not browser.execute_script(DOCUMENTS)
            assert any("frame-ancestors" in line for line in complaints(browser))


@pytest.mark.parametrize("path", ["metrics", "json/counts.json", "health"])
def test_programs_read_pages_with_a_password(
    loop: LoopThread, gateway: Gateway, dask: DaskCluster, path: str
) -> None:
    cluster = gateway.add("bob", dask.dashboard)

    async def get() -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"{gateway.base}/clusters/{cluster.name}/{path}",
                headers={"Authorization": basic("bob")},
            ) as answer,
        ):
            return answer.status, await answer.text()

    status, text = loop.run(get())
    assert status == 200
    assert text
