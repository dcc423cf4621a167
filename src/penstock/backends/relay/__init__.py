"""The backend ``notebook``: jobs that a user's own notebook submits, with the user's credentials."""

from penstock.backends.relay.backend import RelayBackend

__all__ = ["RelayBackend"]
