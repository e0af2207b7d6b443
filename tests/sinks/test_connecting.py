"""What the sinks share that keep a connection, where no test of a kind comes by for certain."""

import asyncio
import ssl

import pytest
import trustme

from receiver.sinks.connecting import abort
from tests.sinks.servers import Connection, TcpServer


@pytest.mark.parametrize("closed", [0, 1, 2])
async def test_a_connection_is_ended_at_once_however_often_it_was_closed(
    closed: int, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    """asyncio loses its TLS when it is closed for the second time, as a client does that has failed over it."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with TcpServer(Connection.hang, tls=tls) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
        for _ in range(closed):
            writer.close()
        abort(writer)
        abort(writer)
        assert await reader.read() == b""
