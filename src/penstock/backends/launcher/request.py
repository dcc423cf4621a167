"""What the launcher is asked for, and how it refuses."""

from __future__ import annotations

import errno
import json
from binascii import a2b_base64

REJECTED, UNAVAILABLE = "rejected", "unavailable"
_TRANSIENT = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EAGAIN,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
}


class Refusal(Exception):
    """The batch cannot start; ``kind`` says whether it ever could."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def refusal(error: OSError, what: str) -> Refusal:
    """An error of the system as a refusal: full disks pass, missing files stay missing."""
    kind = UNAVAILABLE if error.errno in _TRANSIENT else REJECTED
    return Refusal(kind, f"{what}: {error.strerror}")


class Request:
    """What to start; see ``penstock.backends.local.request.encode``."""

    def __init__(self, raw: bytes) -> None:
        data = json.loads(raw)
        self.tag: str = data["tag"]
        self.boot: str = data["boot"]
        self.owner: str = data["owner"]
        self.identity: list[int] | None = data["identity"]
        self.groups: list[int] = data["groups"]
        self.uid: int = data["uid"]
        self.count: int = data["count"]
        self.nice: int = data["nice"]
        self.directory = a2b_base64(data["directory"])
        self.command = [a2b_base64(word) for word in data["command"]]
        self.env = {a2b_base64(key): a2b_base64(value) for key, value in data["env"]}
        self.files = {a2b_base64(name): a2b_base64(content) for name, content in data["files"]}
        self.deadline: float = data["deadline"]
        self.socket: str = data["socket"]
