from __future__ import annotations

import errno
import ssl

import pytest

from penstock.agent.base import Broken
from penstock.agent.links import host_setting, in_use, named_security, port_pairs, say_name
from penstock.door.clienthello import Hello, parse
from rigs.agents import keypair


def hello(context: ssl.SSLContext, **words: object) -> object:
    """What a door understands of the first bytes of a connection."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    wrapped = context.wrap_bio(incoming, outgoing, **words)  # type: ignore[arg-type]
    with pytest.raises(ssl.SSLWantReadError):
        wrapped.do_handshake()
    return parse(outgoing.read())


def test_a_context_says_the_name_whoever_uses_it() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    assert hello(context) == Hello(None)
    say_name(context, "daskgateway-x")
    assert hello(context) == Hello("daskgateway-x")
    assert hello(context, server_hostname="127.0.0.1") == Hello("daskgateway-x")


def test_a_security_makes_such_contexts_for_every_role() -> None:
    from distributed.security import Security

    cert, key = keypair()
    files = {"worker_cert": cert, "worker_key": key, "client_cert": cert, "client_key": key}
    texts = {f"tls_{name}": text for name, text in files.items()}
    given = Security(tls_ca_file=cert, require_encryption=True, **texts)
    made = named_security(given, "daskgateway-x")
    assert isinstance(made, Security)
    for role in ("worker", "client"):
        arguments = made.get_connection_args(role)
        assert arguments["require_encryption"] is True
        assert hello(arguments["ssl_context"]) == Hello("daskgateway-x")
        assert hello(given.get_connection_args(role)["ssl_context"]) == Hello(None)


def test_a_host_may_be_what_the_node_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE", "203.0.113.7")
    assert host_setting("$NODE") == "203.0.113.7"
    assert host_setting("10.0.0.1") == "10.0.0.1"
    assert host_setting(None) is None
    monkeypatch.setenv("NODE", "")
    with pytest.raises(Broken, match="the variable NODE"):
        host_setting("$NODE")


def test_ports_are_tried_in_pairs() -> None:
    assert list(port_pairs(None)) == [(0, 0)]
    tried = list(port_pairs([40000, 40003]))
    assert len(tried) > 10
    assert all(40000 <= one <= 40003 and one != other for one, other in tried)


def test_a_taken_port_is_known_behind_other_errors() -> None:
    error = RuntimeError("failed to start")
    error.__cause__ = OSError(errno.EADDRINUSE, "in use")
    assert in_use(error)
    assert not in_use(RuntimeError("x"))
    assert not in_use(OSError(errno.EACCES, "x"))
