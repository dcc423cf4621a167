"""Who somebody is: authentication, signed tokens, and identities on this system."""

from penstock.auth.base import Authenticator, User, check_user_name
from penstock.auth.identity import Identity, lookup
from penstock.auth.signer import Signer

__all__ = ["Authenticator", "Identity", "Signer", "User", "check_user_name", "lookup"]
