"""A dashboard, and any other web site, that tries to act as whoever looks at it.

The viewer is an admin with all that a browser sends along by itself: the API's cookie, a
remembered password, and the cookie of another cluster's dashboard.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
from selenium import webdriver

from rigs.chromium import until
from rigs.dashboards import Gateway, LoopThread, running_site
from rigs.hostile import SECRET, Attack, Attackable, click, cookies, outcome

HOSTS = ("127.0.0.1", "gateway.example.org")


@pytest.fixture
def attackable(gateway: Gateway) -> Attackable:
    """The gateway that is attacked."""
    return gateway


@pytest.fixture
def attack(loop: LoopThread, attackable: Attackable, browser: webdriver.Chrome) -> Iterator[Attack]:
    """A hostile cluster of mallory's beside alice's, and alice's browser, logged in everywhere."""
    gateway = attackable
    attack = Attack(gateway)
    with contextlib.ExitStack() as stack:
        victim = stack.enter_context(running_site(loop, {"/{rest:.*}": attack.serve_victim}))
        hostile = stack.enter_context(running_site(loop, {"/{rest:.*}": attack.serve_hostile}))
        alices = gateway.add("alice", f"http://127.0.0.1:{victim}")
        mallorys = gateway.add("mallory", f"http://127.0.0.1:{hostile}")
        attack.victim, attack.own = alices.name, mallorys.name
        attack.link = gateway.link(mallorys, "alice")
        with_password = gateway.base.replace("//", f"//{gateway.credentials}@")
        browser.get(f"{with_password}/api/v1/clusters/")
        assert alices.name in browser.page_source
        browser.get(gateway.link(alices, "alice"))
        until(lambda: SECRET in browser.page_source, "alice sees her own dashboard")
        assert {path for _, path, _ in cookies(browser)} == {"/api", f"/clusters/{alices.name}/"}
        gateway.touched.clear()
        attack.victim_hits.clear()
        yield attack


def assert_unharmed(browser: webdriver.Chrome, attack: Attack, before: list[object]) -> None:
    assert attack.changes() == []
    assert [each for each in cookies(browser) if each in before] == before
    assert not any("evil" in value for _, _, value in cookies(browser))


@pytest.mark.parametrize("gateway", HOSTS, indirect=True)
def test_a_hostile_dashboard_wins_nothing(browser: webdriver.Chrome, attack: Attack) -> None:
    before = list(cookies(browser))
    browser.get(attack.link)
    assert outcome(browser, "attacked") == {}
    assert_unharmed(browser, attack, before)
    assert attack.victim_hits == []
    click(browser)
    assert outcome(browser, "clicked") == {}
    assert_unharmed(browser, attack, before)
    # The one cookie more is the viewer's own, for this cluster.
    more = [path for name, path, value in cookies(browser) if (name, path, value) not in before]
    assert more == [f"/clusters/{attack.own}/"]


@pytest.mark.parametrize(
    ("gateway", "foreign"),
    [
        ("127.0.0.1", "localhost"),
        ("gateway.example.org", "localhost"),
        # For cookies one site with the gateway: every SameSite cookie is sent along.
        ("gateway.example.org", "people.example.org"),
    ],
    indirect=["gateway"],
)
def test_a_foreign_site_wins_nothing(
    browser: webdriver.Chrome, loop: LoopThread, attack: Attack, foreign: str
) -> None:
    before = list(cookies(browser))
    with running_site(loop, {"/{rest:.*}": attack.serve_foreign}) as port:
        browser.get(f"http://{foreign}:{port}/")
        assert outcome(browser, "attacked") == {}
        click(browser)
        assert outcome(browser, "clicked") == {}
    assert attack.changes() == []
    kept = [each for each in cookies(browser) if each in before]
    assert kept == before


LEADS = (
    "location = names.api",
    "location = `${victimApi}/stop`",
    "location = `redirect?to=${encodeURIComponent(victimApi)}`",
    "location = 'prompt'",
    "location = 'javascript:fetch(names.api, {method: `POST`})'",
    "submit(`${victimApi}/scale`, '_self')",
    "submit(`redirect?to=${encodeURIComponent(names.api)}`, '_self')",
    "document.head.innerHTML = `<meta http-equiv=refresh content='0; url=${names.api}'>`",
)


@pytest.mark.parametrize("gateway", HOSTS, indirect=True)
def test_a_hostile_dashboard_leads_its_viewer_to_no_change(
    browser: webdriver.Chrome, attack: Attack
) -> None:
    before = list(cookies(browser))
    for lead in LEADS:
        browser.get(attack.link.replace("/status", "/quiet"))
        until(lambda: browser.title == "quiet", "the page is there")
        here = browser.current_url
        browser.execute_script(
            f"const code = document.createElement('script'); code.text = {json.dumps(lead)};"
            "setTimeout(() => document.body.append(code))"
        )
        # Some lead away, the others must do nothing; there is no sign of nothing but time.
        with contextlib.suppress(pytest.fail.Exception):
            until(lambda: browser.current_url != here, lead, deadline=1.0)  # noqa: B023
        assert_unharmed(browser, attack, before)
