"""Jobs as processes of this machine."""

from penstock.backends.local.backend import LocalBackend

__all__ = ["LocalBackend"]
