"""The channel between a scheduler's agent and the server: one WebSocket, JSON text frames.

The agent connects to ``GET <server>/api/v1/clusters/<name>/channel`` with
``Authorization: token <cluster token>`` and speaks first. Both sides ignore keys and ``op``s that
they do not know, so that old agents and new servers understand each other. No frame is larger than
``MAX_FRAME`` bytes; more than ``MAX_RATE`` frames a second close the channel (code 1008).

Agent → server
  {"op": "hello", "protocol": 1, "sequence": of its batch, "scheduler_address": "tls://10.0.0.5:39211",
   "dashboard_address": "http://10.0.0.5:8787" or null,
   "versions": {"python": "3.12.1", "distributed": "2026.8.0", "dask": …, …},
   "workers": ["w1-0", …]}                                   first, and after every reconnect
  {"op": "report", "added": ["w1-3"], "removed": ["w1-1"],   what changed since the last one
   "workers": 12, "threads": 24, "clients": 1,
   "tasks": {"processing": 3, "queued": 0, "unrunnable": 0, "waiting": 9, "memory": 40, "erred": 0},
   "memory": bytes used by workers, "memory_limit": bytes, "cpu": workers' CPU in percent, summed,
   "scheduler": {"cpu": percent, "memory": bytes},
   "idle": seconds since the last task activity or 0.0 while there is any,
   "target": n or null,                                      null unless adaptive
   "mismatch": [{"who": "worker" or "client", "count": 3,    what runs other versions than the
     "versions": {"python": "3.9.2", "distributed": …, "dask": …}}, …]}   scheduler; "" for unknown
  {"op": "retired", "id": 7, "names": ["w1-2"], "error": null}
  {"op": "output", "id": 9, "text": "…"}                     the answer to the question of that id
  {"op": "closing", "reason": "…"}                           the scheduler ends by itself
  {"op": "terminated", "reason": "…"}                        its job was told to end (SIGTERM)

Server → agent
  {"op": "welcome", "period": 5.0, "adapt": {…} as below}    the answer to hello
  {"op": "adapt", "active": true, "minimum": 0, "maximum": null}
  {"op": "scale", "count": 12}                               for information
  {"op": "retire", "id": 7, "count": 3, "names": null or [candidates]}
      Candidates that the scheduler does not have (not yet, or no longer) go first: they count
      towards "count" and stand in the answer's "names".
  {"op": "output", "id": 9, "job": "w3-4", "size": 65536}    what has Dask logged there, at most
  {"op": "close", "reason": "…"}                             workers and scheduler shall end now

When a job's process dies (scheduler or worker), its agent reports it by
``POST <server>/api/v1/clusters/<name>/exits`` with the same token and
  {"job": "w3-4" or "s0-0", "code": 137, "reason": "out of memory" or "", "tail": "last lines",
   "last_words": true when the job was told to end, or ended well: then only the tail is of use}
and asks for nothing in return.
"""

from __future__ import annotations

PROTOCOL = 1
MAX_FRAME = 1 << 20
MAX_RATE = 20
MAX_TAIL = 16 * 1024
"""Bytes of output that an exit report may carry."""

CONFIG_FILE = "penstock.json"
"""What the agent finds in its directory, beside itself: see ``AGENT_CONFIG``."""

AGENT_FILE = "penstock_agent.py"

AGENT_CONFIG = """
{"role": "scheduler" | "worker", "cluster": name, "sequence": n,
 "servers": ["http://127.0.0.1:8000", …] tried in turn, "token": "…",
 "tls_cert": PEM, "tls_key": PEM,                      of the cluster, both roles
 "ca": PEM or null                                     to trust for https servers, besides the system's
 "scheduler_address": "tls://…",                       workers only: the scheduler's, or the front door's
 "scheduler_sni": null or "daskgateway-<cluster>",     what all of the worker's connections then say
 "nthreads": 1, "memory": bytes, "nanny": true,        workers only
 "nthreads": 1,                                        scheduler (optional): those of a worker to come,
                                                       for the adaptive target while there is none
 "contact_host": null or "10.0.0.5" or "$VARIABLE",    what to listen at and announce; null: find out
 "listen_host": null or "0.0.0.0",                     workers only: listen there, announce contact_host
 "ports": null or [first, last],                       to listen at, of every process of the job
 "resources": null or {"GPU": 1},                      workers only: Dask's resources, for annotations
 "dashboard": true,                                    scheduler only
 "lifetime": null or seconds, "lifetime_stagger": seconds,    workers only
 "activate": null or {"kind": "conda" | "pixi" | "venv", "prefix": "/…",      to activate before Dask
                      "project": "/…" and "environment": "default" with pixi},  starts; both roles
 "give_up": seconds without the server (scheduler) or the scheduler (worker) before ending: 86400}
"""
