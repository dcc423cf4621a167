"""Bodies of requests that do not arrive as they should."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from penstock.api.body import json_object
from penstock.model.errors import Invalid


async def test_a_client_that_goes_half_way_is_no_unexpected_error() -> None:
    loop = asyncio.get_running_loop()
    body = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    body.feed_data(b'{"workers": ')
    body.set_exception(ConnectionResetError("Connection lost"))
    headers = {"Content-Type": "application/json"}
    request = make_mocked_request("POST", "/", headers=headers, payload=body)
    with pytest.raises(Invalid) as caught:
        await json_object(request)
    assert str(caught.value) == "The connection ended before the whole body had arrived."
