"""A dashboard, and any other web site, that tries to act as whoever looks at it.

The viewer is an admin with all that a browser sends along by itself: the API's cookie, a
remembered password, and the cookie of another cluster's dashboard. They follow a link that the
hostile user passed on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
from selenium import webdriver

from rigs.chromium import until
from rigs.dashboards import Gateway, LoopThread, running_gateway, running_site
from rigs.hostile import SECRET, Attack, Attackable, click, cookies, outcome
from rigs.real_api import RealGateway

# An API that believes all that it is sent, and the real one; browsers trust the first address
# like HTTPS, and the second as they do plain HTTP on a network.
PLAIN, REAL = (Gateway, "127.0.0.1"), (RealGateway, "gateway.example.org")


@pytest.fixture(params=[PLAIN, REAL], ids=["plain-api", "real-api"])
def attackable(loop: LoopThread, request: pytest.FixtureRequest) -> Iterator[Attackable]:
    """The gateway that is attacked."""
    kind, host = request.param
    with running_gateway(loop, kind) as gateway:
        gateway.host = host
        yield gateway


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
        attack.link = gateway.link(mallorys, "mallory")
        with_password = gateway.base.replace("//", f"//{gateway.credentials}@")
        browser.get(f"{with_password}/api/v1/clusters/")
        assert alices.name in browser.page_source
        browser.get(gateway.link(alices, "alice"))
        until(lambda: SECRET in browser.page_source, "alice sees her own dashboard")
        assert {path for _, path, _ in cookies(browser)} == {"/api", f"/clusters/{alices.name}/"}
        gateway.touched.clear()
        attack.victim_hits.clear()
        yield attack


def assert_unharmed(browser: webdriver.Chrome, attack: Attack) -> None:
    """The API let nothing but looking pass, and alice's browser has its cookies and no others."""
    assert attack.changes() == []
    own = {"/api", f"/clusters/{attack.victim}/"}
    assert own <= {path for _, path, _ in cookies(browser)} <= {*own, f"/clusters/{attack.own}/"}
    assert not any("evil" in value for _, _, value in cookies(browser))


def test_a_hostile_dashboard_wins_nothing(browser: webdriver.Chrome, attack: Attack) -> None:
    browser.get(attack.link)
    assert outcome(browser, "attacked") == {}
    assert_unharmed(browser, attack)
    assert attack.victim_hits == []
    click(browser)
    assert outcome(browser, "clicked") == {}
    assert_unharmed(browser, attack)


@pytest.mark.parametrize(
    ("attackable", "foreign"),
    [
        (PLAIN, "localhost"),
        (REAL, "localhost"),
        # For cookies one site with the gateway: every SameSite cookie is sent along.
        (REAL, "people.example.org"),
    ],
    ids=["plain-api", "real-api", "real-api-neighbour"],
    indirect=["attackable"],
)
def test_a_foreign_site_wins_nothing(
    browser: webdriver.Chrome, loop: LoopThread, attack: Attack, foreign: str
) -> None:
    with running_site(loop, {"/{rest:.*}": attack.serve_foreign}) as port:
        browser.get(f"http://{foreign}:{port}/")
        assert outcome(browser, "attacked") == {}
        click(browser)
        assert outcome(browser, "clicked") == {}
    # Any site may set cookies for its neighbours: for the gateway they are worth nothing unsigned.
    assert attack.changes() == []


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


def test_a_hostile_dashboard_leads_its_viewer_to_no_change(
    browser: webdriver.Chrome, attack: Attack
) -> None:
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
        assert_unharmed(browser, attack)
