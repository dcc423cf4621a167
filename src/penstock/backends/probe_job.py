"""What the doctor's job runs on a node: can it reach the gateway, and can its Python run Dask?

The answer is the exit code, which every batch system tells without a shared file system; details go
to the output. Runs by itself, on any Python from 3.6 on, with nothing but the standard library.
"""

import json
import socket
import ssl
import sys
import urllib.error
import urllib.request
from typing import Any, Tuple

BASE = 64  # exit codes below are other people's
PYTHONS = 4  # how many findings about the Python there are

REACHED, SOME, UNREACHED, UNRESOLVED, UNTRUSTED, STRANGE = range(6)
FIT, ABSENT, OLD, BROKEN = range(PYTHONS)

SECONDS = 10.0
OLDEST = (3, 8)


def reach(server: str, opener: Any) -> Tuple[int, str]:
    """How far it is to one address, and why not further."""
    try:
        with opener.open(server + "/api/version", timeout=SECONDS) as answer:
            name = json.loads(answer.read(65536).decode()).get("name")
    except urllib.error.HTTPError as error:
        return STRANGE, f"HTTP status {error.code}"
    except urllib.error.URLError as error:
        return why(error.reason), str(error.reason)
    except (OSError, ssl.SSLError) as error:
        return why(error), str(error)
    except (ValueError, AttributeError):
        return STRANGE, "the answer is not the gateway's"
    return (REACHED, "reached") if name == "penstock" else (STRANGE, "it is no Penstock")


def why(error: Any) -> int:
    """What kind of failure it is."""
    if isinstance(error, ssl.SSLError):
        return UNTRUSTED
    return UNRESOLVED if isinstance(error, socket.gaierror) else UNREACHED


def fitness() -> Tuple[int, str]:
    """Whether this Python can run a scheduler or a worker."""
    if sys.version_info[:2] < OLDEST:
        return OLD, f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    try:
        import dask
        import distributed
    except ImportError as error:
        return (ABSENT if error.name in ("dask", "distributed") else BROKEN), str(error)
    except Exception as error:
        return BROKEN, f"{type(error).__name__}: {error}"
    versions = [getattr(package, "__version__", "?") for package in (dask, distributed)]
    return FIT, "dask {}, distributed {}".format(*versions)


def main(text: str) -> int:
    """Look, tell, and make an exit code of it."""
    told = json.loads(text)
    # A bundle of a site is added to the system's authorities, as in the agent.
    context = ssl.create_default_context()
    if told["ca"]:
        context.load_verify_locations(cadata=told["ca"])
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),  # the agent uses none either
        urllib.request.HTTPSHandler(context=context),
    )
    far = []
    for server in told["servers"]:
        number, words = reach(server, opener)
        far.append(number)
        print(f"{server}: {words}")
    worst = REACHED if not any(far) else SOME if REACHED in far else far[0]
    fit, words = fitness()
    print(f"{sys.executable}: {words}")
    return 0 if (worst, fit) == (REACHED, FIT) else BASE + worst * PYTHONS + fit


if __name__ == "__main__":
    with open("probe.json", encoding="utf-8") as file:
        code = main(file.read())
    sys.stdout.flush()
    sys.exit(code)
