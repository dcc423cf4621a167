"""Every failure becomes JSON with one sentence for people: ``{"error": "…"}``.

The ``dask_gateway`` client shows that text in its exceptions (404 and 422: ValueError,
409: GatewayClusterError, 500: GatewayServerError), so the reason reaches the notebook.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from penstock.api.services import services
from penstock.model.errors import PenstockError, StoreError, Unauthenticated, UserError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger("penstock.api")


def error_response(status: int, text: str, **headers: str) -> web.Response:
    """The JSON that the client's users read; ``text`` may hold anything, it is data."""
    return web.json_response({"error": text}, status=status, headers=headers)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn exceptions of the API's handlers into responses; other paths keep their own ways."""
    if not request.path.startswith(("/api/", "/metrics")):
        return await handler(request)
    try:
        return await handler(request)
    except Unauthenticated as error:
        challenge = services(request).authenticator.challenge
        return error_response(401, str(error), **{"WWW-Authenticate": challenge})
    except UserError as error:
        return error_response(error.status, str(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return error_response(error.status, _plain(error))
    except StoreError as error:
        log.error("the database failed", path=request.path, error=str(error))
        return error_response(500, f"The gateway's database failed, nothing was changed: {error}")
    except PenstockError as error:
        log.error("request failed", path=request.path, error=str(error))
        return error_response(500, str(error))
    except Exception:
        reference = uuid.uuid4().hex[:8]
        log.exception("unexpected error", path=request.path, reference=reference)
        return error_response(
            500,
            f"The gateway met an unexpected error; tell your admins the reference {reference}.",
        )


def _plain(error: web.HTTPException) -> str:
    if error.status == 404:
        return "There is no such address here; the API is described in Penstock's documentation."
    if error.status == 413:
        return "The request is too large; the gateway accepts 12 MiB at most."
    return error.text or error.reason
