"""What ``dask_gateway`` leaves to its HTTP client to say, in a sentence for users."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from aiohttp import ClientConnectorError, ClientResponseError, ClientSSLError
from dask_gateway.client import GatewayServerError


@contextlib.contextmanager
def telling(address: str) -> Iterator[None]:
    """Around a question to the gateway at ``address``. Raises GatewayServerError when it is not there, or
    does not accept the login."""
    try:
        yield
    except ClientResponseError as error:
        if error.status != 401:
            raise
        raise GatewayServerError(
            f"The gateway {address} does not accept your login: is the name or the password wrong, "
            "or is a token over?"
        ) from None
    except ClientSSLError:  # its own words are good
        raise
    except ClientConnectorError as error:
        number = error.errno or 0
        words = os.strerror(number) if number > 0 else error.strerror  # negative: of getaddrinfo
        raise GatewayServerError(
            f"The gateway {address} cannot be reached ({words}): is the address right, and does it run?"
        ) from None
