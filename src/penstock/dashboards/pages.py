"""The few pages that are Penstock's own: the login form, and why there is no dashboard to show.

Static texts with escaped values and no script: a template engine would be more to trust than they need.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence

from aiohttp import web

from penstock.model.cluster import Cluster, Status

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1rem;"
    "color:#1d2733}h1{font-size:1.4rem}input,button{font:inherit;padding:.4rem .6rem;margin:.2rem 0;"
    "width:100%;box-sizing:border-box}label{display:block;margin:.6rem 0}.error{color:#a11}"
    "pre{white-space:pre-wrap;background:#f3f5f7;padding:.6rem}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_ENDS = {
    Status.STOPPING: "is stopping",
    Status.STOPPED: "has stopped",
    Status.FAILED: "has failed",
}

LOGIN = "login"
"""What stands in a token's place in the path that the login form is sent to."""


def login_form(name: str, page: str, error: str = "", *, status: int = 401) -> web.Response:
    """The form that asks for user and password, and leads to ``page`` afterwards.

    It is the same for every name, whether there is such a cluster or not.
    """
    shown = f'<p class="error" role="alert">{html.escape(error)}</p>' if error else ""
    body = (
        f"<h1>Dask dashboard</h1><p>Log in to see the dashboard of cluster "
        f"<code>{html.escape(name)}</code>, or open a new link from your notebook.</p>{shown}"
        f'<form method="post" action="/clusters/{html.escape(name)}/~{LOGIN}">'
        f'<input type="hidden" name="page" value="{html.escape(page)}">'
        '<label>User <input name="user" autocomplete="username" required autofocus></label>'
        '<label>Password <input name="password" type="password" '
        'autocomplete="current-password" required></label>'
        '<button type="submit">Log in</button></form>'
    )
    # "no-referrer" would make browsers send "Origin: null" with the form (Fetch Standard).
    return _page("Log in", body, status, ("'none'",), referrer="same-origin")


def not_found() -> web.Response:
    """The answer for clusters that do not exist, and for those of somebody else."""
    body = "<h1>No such cluster</h1><p>There is no cluster of this name among yours.</p>"
    return _page("No such cluster", body, 404, ("'none'",))


def refused() -> web.Response:
    """The answer to what no honest page asks for, and to capabilities that ran out."""
    body = "<h1>Refused</h1><p>This address is not valid any more; reload the dashboard's page.</p>"
    return _page("Refused", body, 403, ("'none'",))


def wrong_method() -> web.Response:
    """Dashboards are for looking."""
    body = "<h1>Not allowed</h1><p>Penstock passes only GET and HEAD on to dashboards.</p>"
    return _page("Not allowed", body, 405, ("'none'",), Allow="GET, HEAD")


def no_dashboard(cluster: Cluster, frame_ancestors: Sequence[str]) -> web.Response:
    """Why a cluster that exists has nothing to show; a starting one is asked again soon."""
    if cluster.status is Status.PENDING:
        text, status = "The cluster is starting; this page looks again every few seconds.", 503
        return _reason("Starting", text, "", status, frame_ancestors, Refresh="3")
    if cluster.status is Status.RUNNING:
        text = (
            "The cluster runs, but its scheduler has no dashboard: most likely the package "
            "“bokeh” is missing in its environment."
        )
        return _reason("No dashboard", text, "", 404, frame_ancestors)
    text = f"The cluster {_ENDS[cluster.status]}, and its dashboard is gone with it."
    return _reason("No dashboard", text, cluster.reason, 404, frame_ancestors)


def expired_pane(frame_ancestors: Sequence[str]) -> web.Response:
    """What a frame shows instead of the login form, which must not stand in anybody's frame."""
    text = "This pane's link is not valid any more; take a new one from the cluster."
    return _reason("Link expired", text, "", 401, frame_ancestors)


def unreachable(status: int, text: str, frame_ancestors: Sequence[str]) -> web.Response:
    """The scheduler's own server did not do its part (``status`` 502 or 504)."""
    return _reason("The dashboard does not answer", text, "", status, frame_ancestors)


def _reason(
    title: str, text: str, words: str, status: int, ancestors: Sequence[str], **headers: str
) -> web.Response:
    quoted = f"<pre>{html.escape(words)}</pre>" if words else ""
    body = f"<h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>{quoted}"
    return _page(title, body, status, ancestors, **headers)


def _page(
    title: str,
    body: str,
    status: int,
    frame_ancestors: Sequence[str],
    *,
    referrer: str = "no-referrer",
    **headers: str,
) -> web.Response:
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)} · Penstock</title><style>{_STYLE}</style>{body}</html>\n"
    )
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
        f"base-uri 'none'; frame-ancestors {' '.join(frame_ancestors)}"
    )
    own = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": referrer,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    if frame_ancestors[0] == "'none'":
        own["Cross-Origin-Opener-Policy"] = "same-origin"
    return web.Response(
        text=text, status=status, content_type="text/html", headers={**own, **headers}
    )
