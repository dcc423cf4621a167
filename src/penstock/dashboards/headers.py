"""Which headers pass between browser and scheduler, and what every dashboard page is served with.

Both lists name what passes; all else stays. A scheduler is in its user's hands, so its answers
may set no cookie, no policy and no cache of ours; and nothing that identifies the viewer reaches it.

Every proxied answer is sandboxed without an origin of its own: its scripts run, but have no cookies,
no storage, no service worker, and may read nothing of the gateway's. That holds for each page and
needs no second host name or port, which most facilities could not give.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_UP = (
    "Accept",
    "Accept-Language",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "Range",
)
_DOWN = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Range",
    "Content-Type",
    "ETag",
    "Last-Modified",
    "Retry-After",
    "Vary",
)
_VALUE = re.compile(r"[\t -~]{0,4096}")
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,10})")

BULMA = "https://cdnjs.cloudflare.com/ajax/libs/bulma/"
"""The style sheet that distributed's ``/info`` pages (``main.html``) take from the net."""

_SANDBOX = "sandbox allow-scripts allow-popups allow-downloads"


def page_policy(frame_ancestors: Sequence[str]) -> str:
    """The Content-Security-Policy of all that comes from a scheduler.

    Bokeh compiles callbacks at run time, hence ``unsafe-eval``; Dask's templates have inline
    scripts. Links open new tabs (sandboxed too) and plots can be saved; forms and frames are
    nothing that dashboards need. ``'self'`` is the gateway's address also in a sandbox
    (CSP Level 3, "self-origin"), but requests to it carry no cookie.
    """
    return "; ".join(
        (
            _SANDBOX,
            "default-src 'none'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            f"style-src 'self' 'unsafe-inline' {BULMA}",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            f"frame-ancestors {' '.join(frame_ancestors)}",
        )
    )


def is_source(text: str) -> bool:
    """True for text that stands for one source in a policy, and ends neither it nor the header."""
    return re.fullmatch(r"[!-~]+", text) is not None and not {";", ","} & set(text)


def security_headers(policy: str, *, shared: bool) -> dict[str, str]:
    """What every proxied answer carries. ``shared``: asked for under a capability.

    The sandbox has no origin, so fonts and fetches of its own count as foreign and need
    ``Access-Control-Allow-Origin``; the path's capability is what admits them, no cookie is.
    """
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
    if shared:
        headers["Access-Control-Allow-Origin"] = "*"
    else:
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return headers


def request_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What the scheduler hears of a viewer's request; ``headers`` must find names in any case."""
    passed = _pick(headers, _UP)
    passed["Accept-Encoding"] = headers.get("Accept-Encoding", "identity")
    passed["User-Agent"] = "Penstock"
    return passed


def response_headers(headers: Mapping[str, str], *, max_age: float) -> dict[str, str]:
    """What a viewer's browser hears of the scheduler's answer.

    Caching is for this browser alone and ends with the capability, after ``max_age`` seconds.
    """
    passed = _pick(headers, _DOWN)
    passed.setdefault("Content-Type", "application/octet-stream")
    asked = _MAX_AGE.search(headers.get("Cache-Control", "").lower())
    age = min(int(asked[1]), int(max_age)) if asked else 0
    passed["Cache-Control"] = f"private, max-age={age}" if age else "private, no-cache"
    return passed


def _pick(headers: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    found = {name: headers[name] for name in names if name in headers}
    return {name: value for name, value in found.items() if _VALUE.fullmatch(value)}
