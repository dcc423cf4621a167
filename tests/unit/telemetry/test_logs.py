"""Logs: one line whatever was sent, and never a secret."""

import io
import json
import logging

import pytest
import structlog

from penstock.telemetry.logs import MASK, configure


@pytest.fixture
def lines():
    """Configure logging onto a buffer; give back a function that reads what was logged."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    yield lambda form="human", level="info": configure(level, form, stream) or stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_text_from_users_cannot_forge_a_line(lines):
    stream = lines()
    structlog.get_logger("x").info("stop\nforged", name="a\r\nb \x1b[31mred")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert r"stop\nforged" in text


@pytest.mark.parametrize("form", ["human", "json"])
def test_secrets_are_masked(lines, form):
    stream = lines(form)
    structlog.get_logger("x").info("hello", password="hunter2", tls_key="PEM", cluster="c")
    assert "hunter2" not in stream.getvalue()
    assert "PEM" not in stream.getvalue()


def test_json_lines_carry_every_key(lines):
    stream = lines("json")
    structlog.get_logger("x").warning("slow", cluster="abc", user="ada", token="t")
    entry = json.loads(stream.getvalue())
    assert entry["event"] == "slow"
    assert entry["cluster"] == "abc"
    assert entry["level"] == "warning"
    assert entry["token"] == MASK


def test_levels_filter_and_libraries_are_heard(lines):
    stream = lines(level="warning")
    structlog.get_logger("x").info("quiet")
    logging.getLogger("some.library").warning("heard\nhere")
    assert "quiet" not in stream.getvalue()
    assert r"heard\nhere" in stream.getvalue()


def test_an_unknown_level_is_told(lines):
    with pytest.raises(ValueError, match="not a log level"):
        lines(level="loud")
