"""Logging in: once by password, then by a cookie that proves nothing to anybody else."""

from __future__ import annotations

import asyncio
import json
import re
import time
from base64 import b64encode

import pytest
from dask_gateway import BasicAuth, Gateway
from yarl import URL

from penstock.api.session import COOKIE
from penstock.auth import Signer
from penstock.store import Store


def login(facility, user) -> str:
    """The cookie that a first request brings."""
    _, _, headers = facility.ask(user, "GET", "/api/v1/clusters/")
    return re.match(r"[^;]+", headers["set-cookie"])[0]


def test_the_first_login_brings_a_cookie_that_replaces_the_password(facility):
    status, _, headers = facility.ask(facility.alice, "GET", "/api/v1/clusters/")
    cookie = headers["set-cookie"]
    assert status == 200
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/api", "Max-Age="))
    pair = cookie.split(";")[0]
    status, _, headers = facility.ask(None, "GET", "/api/v1/clusters/", headers={"Cookie": pair})
    assert status == 200
    assert "set-cookie" not in headers  # it is not prolonged by itself


def test_the_client_sends_its_password_once(facility, monkeypatch):
    logins = []
    before = BasicAuth.pre_request
    monkeypatch.setattr(
        BasicAuth, "pre_request", lambda self, resp: logins.append(1) or before(self, resp)
    )
    with facility.client(facility.alice) as client:
        client.list_clusters()
        client.list_clusters()
        client.cluster_options()
        assert logins == [1]
        # The cookie becomes worthless, as after a change of the secret: the client logs in again.
        jar = client._session.cookie_jar
        jar.clear()
        jar.update_cookies({COOKIE: "forged.forged"}, URL(facility.addresses[0]))
        assert client.list_clusters() == []
        assert logins == [1, 1]


def forgeries(real: str):
    body, _, signature = real.partition("=")[2].partition(".")
    stranger = Signer(b"s" * 32)
    admin = {"name": "carol", "groups": [], "admin": True}
    yield "forged.forged"
    yield f"{body}.{signature[:-1]}" + ("A" if signature[-1] != "A" else "B")
    yield f"{body}."
    yield f".{signature}"
    yield f"{body[:-4]}AAAA.{signature}"
    yield stranger.sign("session", admin, 4e9)
    yield "a" * 20000


def test_forged_cookies_are_worth_nothing(facility):
    for forged in forgeries(login(facility, facility.bob)):
        cookie = f"{COOKIE}={forged}"
        status, text, headers = facility.ask(
            None, "GET", "/api/v1/clusters/", headers={"Cookie": cookie}
        )
        assert status in (400, 401), forged[:40]
        if status == 401:
            assert headers["www-authenticate"].startswith("Basic")
            assert "error" in json.loads(text)


async def test_expired_cookies_and_those_of_another_purpose_are_worth_nothing(facility):
    """Made with the gateway's own secret, as nobody but root can."""
    store = await Store.open(f"sqlite:///{facility.rig.state}/penstock.db")
    try:
        signer = Signer(await store.secret("signing"))
    finally:
        await store.close()
    real = (await asyncio.to_thread(login, facility, facility.alice)).partition("=")[2]
    payload = dict(signer.verify("session", real, time.time()))
    for cookie, status in (
        (signer.sign("session", payload, time.time() + 60), 200),
        (signer.sign("session", payload, time.time() - 1), 401),
        (signer.sign("session", {**payload, "name": facility.bob}, time.time() + 60), 401),
        (signer.sign("session", {**payload, "proof": ""}, time.time() + 60), 401),
        (signer.sign("ticket", payload, time.time() + 60), 401),
    ):
        asked = await asyncio.to_thread(
            facility.ask, None, "GET", "/api/v1/clusters/", None, {"Cookie": f"{COOKIE}={cookie}"}
        )
        assert asked[0] == status


def test_a_dashboard_ticket_is_no_login(facility):
    with facility.client(facility.alice) as client, client.new_cluster() as cluster:
        link = cluster.dashboard_link
        token = re.search(r"~([\w.-]{60,})/", link)[1]
        for cookie in (f"{COOKIE}={token}", f"penstock-dashboard={token}"):
            asked = facility.ask(None, "GET", "/api/v1/clusters/", headers={"Cookie": cookie})
            assert asked[0] == 401
        # and a session is no ticket
        session = login(facility, facility.alice).partition("=")[2]
        status, _, _ = facility.ask(
            None, "GET", f"/clusters/{cluster.name}/status",
            headers={"Cookie": f"penstock-dashboard={session}"},
        )  # fmt: skip
        assert status == 401


FOREIGN = [
    {"Origin": "https://evil.example.org"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_no_ambient_credential_changes_anything_for_a_foreign_page(facility, headers):
    cookie = {"Cookie": login(facility, facility.alice)}
    with facility.client(facility.alice) as client:
        name = client.submit()
        path = f"/api/v1/clusters/{name}"
        for user, also in ((None, cookie), (facility.alice, {})):
            for method, where, body in (
                ("POST", "/api/v1/clusters/", {"cluster_options": {}}),
                ("POST", f"{path}/scale", {"count": 1}),
                ("POST", f"{path}/adapt", {"minimum": 1}),
                ("DELETE", path, None),
            ):
                status, text, _ = facility.ask(user, method, where, body, {**headers, **also})
                assert status == 403, text
        assert [report.name for report in client.list_clusters()] == [name]
        client.stop_cluster(name)


def test_a_form_of_another_page_is_no_json(facility):
    """What a browser sends without asking first (a "simple" request) is not taken."""
    cookie = login(facility, facility.alice)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        status, _, _ = facility.ask(
            None, "POST", "/api/v1/clusters/", {"cluster_options": {}},
            {"Cookie": cookie, "Content-Type": kind},
        )  # fmt: skip
        assert status == 422


def test_a_changed_password_file_takes_effect_at_once(facility):
    facility.passwords["dora"] = "doras word"
    facility.write_users()
    assert facility.ask("dora", "GET", "/api/v1/clusters/")[0] == 200
    cookie = login(facility, "dora")
    facility.passwords["dora"] = "another word"
    facility.write_users()
    assert facility.ask("dora", "GET", "/api/v1/clusters/")[0] == 200
    with (
        Gateway(facility.addresses[0], auth=BasicAuth("dora", "doras word")) as old,
        pytest.raises(Exception, match="401"),
    ):
        old.list_clusters()
    # whoever stole the old password must not stay in by the cookie that it brought
    asked = facility.ask(None, "GET", "/api/v1/clusters/", headers={"Cookie": cookie})
    assert asked[0] == 401
    del facility.passwords["dora"]
    facility.write_users()


def test_a_user_taken_out_of_the_file_is_out(facility):
    facility.passwords["dora"] = "doras word"
    facility.write_users()
    cookie = login(facility, "dora")
    del facility.passwords["dora"]
    facility.write_users()
    asked = facility.ask(None, "GET", "/api/v1/clusters/", headers={"Cookie": cookie})
    assert asked[0] == 401


def test_a_user_without_an_account_is_told(facility):
    status, text, _ = facility.ask(
        facility.admin, "POST", "/api/v1/clusters/", {"cluster_options": {}}
    )
    assert status == 422
    assert "There is no Unix user 'carol'" in json.loads(text)["error"]


def test_guessing_locks_nobody_out_who_was_there_before(facility):
    """All users of a JupyterHub come from one address, also the one who guesses."""
    facility.passwords["dora"] = "doras word"
    facility.write_users()
    people = ("dora", facility.alice, facility.bob)
    for user in people:
        assert facility.ask(user, "GET", "/api/v1/clusters/")[0] == 200
    for guess in range(60):
        wrong = b64encode(f"dora:guess {guess}".encode()).decode()
        headers = {"Authorization": f"Basic {wrong}"}
        status, text, _ = facility.ask(None, "GET", "/api/v1/clusters/", headers=headers)
        assert status == 401
    assert "Too many failed logins" in json.loads(text)["error"]
    for user in people:
        assert facility.ask(user, "GET", "/api/v1/clusters/")[0] == 200
    del facility.passwords["dora"]
    facility.write_users()
