"""What ``dask_gateway`` leaves to its HTTP client to say, in a sentence for users."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from aiohttp import ClientConnectorError, ClientResponseError, ClientSSLError
from dask_gateway import Gateway
from dask_gateway.client import GatewayServerError


@contextlib.contextmanager
def telling(gateway: Gateway) -> Iterator[None]:
    """Around a question to a gateway. Raises GatewayServerError when it is not there, or does not
    accept the login."""
    address = gateway.address
    try:
        yield
    except ClientResponseError as error:
        if error.status != 401:
            raise
        raise GatewayServerError(
            f"The gateway {address} does not accept your login ({type(gateway.auth).__name__}): is "
            "the name or the password wrong, or is a token over, or is another kind of login wanted "
            "(gateway.auth in Dask's configuration)?"
        ) from None
    except ClientSSLError:  # its own words are good
        raise
    except ClientConnectorError as error:
        number = error.errno or 0
        words = os.strerror(number) if number > 0 else error.strerror  # negative: of getaddrinfo
        raise GatewayServerError(
            f"The gateway {address} cannot be reached ({words}): is the address right, and does it run?"
        ) from None
