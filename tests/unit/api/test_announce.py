"""What a scheduler may announce, and what a hostile one may not."""

import pytest

from penstock.api.announce import Speaker, vet
from penstock.model.errors import Invalid

HOME = Speaker(peer="127.0.0.1", local="127.0.0.1")
AWAY = Speaker(peer="10.1.0.7", local="10.1.0.1")


def check(url, speaker=HOME, *, scheme="tls", networks=(), own=(8000,), owner=True):
    return vet(
        url,
        scheme,
        speaker,
        networks=networks,
        own_ports=own,
        listens_as_owner=lambda host, port: owner,
    )


def test_the_host_that_it_speaks_from_is_taken():
    assert check("tls://127.0.0.1:4000") == ("127.0.0.1", 4000)
    assert check("tls://10.1.0.7:4000", AWAY) == ("10.1.0.7", 4000)
    assert check("tls://[::1]:4000", Speaker("::1", "::1")) == ("::1", 4000)


def test_an_agent_on_our_host_may_name_any_address_of_the_host_that_it_used():
    speaker = Speaker(peer="10.1.0.1", local="10.1.0.1")
    assert check("tls://127.0.0.1:4000", speaker) == ("127.0.0.1", 4000)


def test_a_listed_network_is_taken():
    assert check("tls://10.9.3.3:1", AWAY, networks=["10.9.0.0/16"]) == ("10.9.3.3", 1)


@pytest.mark.parametrize(
    "url",
    [
        "tls://10.1.0.8:22",  # another host
        "tls://169.254.169.254:80",  # a cloud's metadata
        "tls://127.0.0.1:5432",  # our own loopback, seen from another host
        "tls://10.1.0.1:22",  # our own address
        "tls://localhost:4000",  # a name could mean something else tomorrow
        "tls://0.0.0.0:4000",
        "tls://[::ffff:127.0.0.1]:4000",
    ],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(Invalid, match="announced"):
        check(url, AWAY)


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "",
        "tls://",
        "tls://127.0.0.1",
        "tls://127.0.0.1:0",
        "tls://127.0.0.1:99999",
        "tls://127.0.0.1:4000/path",
        "tls://user@127.0.0.1:4000",
        "http://127.0.0.1:4000",
        "tls://127.0.0.1:4000\r\nX: y",
        "tls://" + "1" * 300 + ":1",
        "tls://[::1:4000",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(Invalid):
        check(url)


def test_the_gateways_own_ports_are_refused():
    with pytest.raises(Invalid, match="own"):
        check("tls://127.0.0.1:8000")


def test_a_port_of_somebody_elses_process_is_refused_on_our_host():
    with pytest.raises(Invalid, match="no process of its owner"):
        check("tls://127.0.0.1:5432", owner=False)
    with pytest.raises(Invalid, match="no process of its owner"):
        check("tls://127.0.0.1:5432", AWAY, networks=["127.0.0.0/8"], owner=False)


def test_ipv4_in_ipv6_counts_as_the_same_host():
    speaker = Speaker(peer="::ffff:10.1.0.7", local="::ffff:10.1.0.1")
    assert check("tls://10.1.0.7:4000", speaker) == ("10.1.0.7", 4000)
