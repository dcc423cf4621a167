"""What ``penstock doctor`` looks at besides the batch systems: this machine, as a server needs it.

It works from the configuration alone, beside a running server or without one, and changes nothing:
the database is only read, and no directory is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import sqlite3
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from cryptography import x509

import penstock
from penstock.backends.insight import Finding, Verdict
from penstock.door.listen import CannotListen, open_listeners
from penstock.door.supervise import find_door
from penstock.model.errors import PenstockError
from penstock.server.accept import Certificate, CertificateFiles
from penstock.server.state import State
from penstock.settings import Settings
from penstock.settings.backends import LocalBackendSettings
from penstock.settings.server import ListenSettings
from penstock.store import tables

SOON = datetime.timedelta(days=14)
"""A certificate that ends within is told of."""

SECONDS = 10.0
"""For each question over the network."""

GOOD, WARNING, BAD = Verdict.GOOD, Verdict.WARNING, Verdict.BAD


def state_directory(state: State) -> Iterator[Finding]:
    """Directory and database, without touching either."""
    place, what = state.directory, "state directory"
    if not place.is_dir():
        near = next((p for p in place.parents if p.exists()), Path("/"))
        if os.access(near, os.W_OK):
            yield Finding(GOOD, what, f"{place} will be made at the first start")
        else:
            yield Finding(BAD, what, f"{place} is not there", "make it, or run this as the server")
        return
    status = place.stat()
    if status.st_uid != os.geteuid():
        advice = "run `penstock doctor` as the account of the server"
        yield Finding(BAD, what, f"{place} belongs to another account", advice)
        return
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(BAD, what, f"{place} cannot be written", "is its file system read-only?")
        return
    yield Finding(GOOD, what, str(place))
    if state.database.exists():
        yield _database(state.database)


def _database(path: Path) -> Finding:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA query_only = on")
            [(state,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
            [(version,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except (sqlite3.Error, ValueError) as error:
        return Finding(BAD, "database", f"{path}: {error}", "restore a backup, see running.md")
    if state != "ok":
        return Finding(BAD, "database", f"{path} is damaged: {state}", "restore a backup")
    note = "" if version == tables.HEAD else f" (schema {version}, upgraded at the next start)"
    return Finding(GOOD, "database", f"in order{note}")


def certificates(settings: Settings, now: datetime.datetime) -> Iterator[Finding]:
    """Whether each can be used, and until when. ``now``: with its time zone."""
    for listen in settings.listen:
        if listen.tls_cert is None or listen.tls_key is None:
            if settings.auth.type == "basic" and not _is_loopback(listen.endpoint[0]):
                found = "without tls_cert, passwords travel in the clear"
                advice = "add a certificate, or listen at 127.0.0.1 behind a proxy that has one"
                yield Finding(WARNING, f"address {listen.address}", found, advice)
            continue
        what = f"certificate of {listen.address}"
        try:
            Certificate(CertificateFiles(listen.tls_cert, listen.tls_key))
            loaded = x509.load_pem_x509_certificate(listen.tls_cert.read_bytes())
        except (OSError, ValueError) as error:
            yield Finding(BAD, what, f"{listen.tls_cert}: {error}", "check tls_cert and tls_key")
            continue
        end = loaded.not_valid_after_utc
        if end < now:
            yield Finding(BAD, what, f"ended {end:%Y-%m-%d}", "renew it")
        elif end < now + SOON:
            yield Finding(WARNING, what, f"ends {end:%Y-%m-%d}", "renew it")
        else:
            yield Finding(GOOD, what, f"until {end:%Y-%m-%d}")


async def addresses(settings: Settings, state: State) -> AsyncIterator[Finding]:
    """Who has the listening addresses: our door, nobody, or somebody else?"""
    pid = state.running_pid() if state.pid_file.exists() else None
    yield Finding(GOOD, "server", f"runs as process {pid}" if pid else "does not run now")
    try:
        door = await find_door(str(state.door_socket))
    except PenstockError as error:
        yield Finding(BAD, "front door", str(error))
        return
    if door is not None:
        yield Finding(GOOD, "front door", f"runs as process {door.pid}")
        return
    if pid:
        yield Finding(BAD, "front door", "does not answer", "see door.log in the state directory")
        return
    for listen in settings.listen:
        try:
            for sock in open_listeners([listen.endpoint]):
                sock.close()
        except CannotListen as error:
            yield Finding(BAD, f"address {listen.address}", str(error))
        else:
            yield Finding(GOOD, f"address {listen.address}", "is free")


def loopback(settings: Settings, backend: str) -> Iterator[Finding]:
    """The address that works in every trial on one machine, and on no node."""
    if isinstance(settings.backends[backend], LocalBackendSettings):
        return
    if all(_is_loopback(urlsplit(url).hostname or "") for url in settings.agent_urls):
        urls = ", ".join(settings.agent_urls)
        advice = "set server.agent_url to what the nodes reach, and listen there"
        yield Finding(WARNING, "agent_url", f"{urls} is this machine alone", advice)


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")


async def reach(settings: Settings) -> AsyncIterator[Finding]:
    """Whether the address that jobs are told leads to this gateway, as seen from here."""
    trust = ssl.create_default_context()
    with contextlib.suppress(OSError):  # told with the configuration
        if settings.server.ca_file is not None:
            trust.load_verify_locations(settings.server.ca_file)
    connector = TCPConnector(ssl=trust)
    async with ClientSession(connector=connector, timeout=ClientTimeout(total=SECONDS)) as session:
        for url in settings.agent_urls:
            yield await _reach(session, url)


async def _reach(session: ClientSession, url: str) -> Finding:
    what = f"agent_url {url}"
    try:
        async with session.get(f"{url}/api/version", allow_redirects=False) as answer:
            told = await answer.json(content_type=None)
    except asyncio.TimeoutError:
        return Finding(BAD, what, "no answer from here", "check server.agent_url and firewalls")
    except (OSError, ClientError) as error:
        return Finding(BAD, what, f"cannot be reached from here: {error}", "check server.agent_url")
    except ValueError:
        told = None
    if not isinstance(told, dict) or told.get("name") != "penstock":
        return Finding(BAD, what, "is not this gateway", "check server.agent_url")
    return Finding(GOOD, what, f"Penstock {told.get('version')} answers")


@contextlib.asynccontextmanager
async def standing_in(settings: Settings) -> AsyncIterator[None]:
    """Answer at the listening addresses like a server that has nothing else to say, so that the
    way from the nodes can be tried before there is one. Raises PenstockError."""

    async def version(request: web.Request) -> web.Response:
        return web.json_response({"version": penstock.__version__, "name": "penstock"})

    app = web.Application()
    app.add_routes([web.get("/api/version", version)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        for listen in settings.listen:
            context = _context(listen)
            for sock in open_listeners([listen.endpoint]):
                await web.SockSite(runner, sock, ssl_context=context).start()
        yield
    except CannotListen as error:
        raise PenstockError(str(error)) from None
    finally:
        await runner.cleanup()


def _context(listen: ListenSettings) -> ssl.SSLContext | None:
    if listen.tls_cert is None or listen.tls_key is None:
        return None
    return Certificate(CertificateFiles(listen.tls_cert, listen.tls_key)).context()
