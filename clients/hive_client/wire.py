"""One request over HTTP, once. What failed is told apart: never sent, or perhaps received.

The only file that speaks to aiohttp. ``Wire`` is the small face the rest needs, so that the fake can stand in for it.
"""

from __future__ import annotations

import json
import ssl
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
from yarl import URL

# A page of a list is at most 4 MiB; twice that leaves room and still bounds what a wrong server can make us hold.
REPLY_BYTES_MAX = 8 * 1024 * 1024
LINE_BYTES_MAX = 4 * 1024 * 1024
CONNECTIONS_MAX = 256


class NotSent(Exception):  # noqa: N818 - says what happened
    """No connection: the request never left, so it did not happen."""


class Cut(Exception):  # noqa: N818 - says what happened
    """The connection broke or stayed silent after the request may have been received."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call as bytes; a repeat sends exactly the same, because the server compares digests.

    ``target`` is the path with query, already encoded. Sending it twice has one effect: see ``retry``.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that was read to its end. Header names keep the spelling of the API."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    endpoint: str

    def document(self) -> Any:
        """The JSON body, or None if there is none or it is not JSON."""
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def revision(self) -> int:
        """``Hive-Revision``: what the answer reflects; 0 if absent."""
        text = self.headers.get("Hive-Revision", "")
        return int(text) if text.isdecimal() else 0


class Stream(Protocol):
    """An open stream: status and headers at once, then line by line. Closing it twice is harmless."""

    status: int
    headers: Mapping[str, str]
    endpoint: str

    async def line(self) -> bytes | None:
        """The next line without its line end; None at the end. Raises ``Cut``."""
        ...

    def close(self) -> None: ...


class Wire(Protocol):
    """Sends one request to one endpoint; raises ``NotSent`` or ``Cut``, never answers for a node."""

    async def send(self, endpoint: str, request: Request, timeout_s: float) -> Reply: ...

    async def open_stream(self, endpoint: str, request: Request, silence_s: float) -> Stream:
        """A stream that counts as cut after ``silence_s`` without a byte."""
        ...

    async def close(self) -> None: ...


class HttpWire:
    """aiohttp with bounds: connections, bytes of a reply, time to connect. Follows no redirects."""

    def __init__(self, *, connect_timeout_s: float = 1.0, ssl_context: ssl.SSLContext | None = None) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._ssl: ssl.SSLContext | bool = ssl_context if ssl_context is not None else True
        self._session: aiohttp.ClientSession | None = None
        self._streams: weakref.WeakSet[HttpStream] = weakref.WeakSet()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, limit_per_host=0)
            self._session = aiohttp.ClientSession(connector=connector, read_bufsize=LINE_BYTES_MAX)
        return self._session

    def _timeout(self, total_s: float | None, sock_read_s: float | None = None) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=total_s, sock_connect=self._connect_timeout_s, sock_read=sock_read_s)

    async def send(self, endpoint: str, request: Request, timeout_s: float) -> Reply:
        try:
            async with self._opened().request(
                request.method,
                URL(endpoint + request.target, encoded=True),
                data=request.body,
                headers=request.headers,
                timeout=self._timeout(timeout_s),
                ssl=self._ssl,
                allow_redirects=False,
            ) as response:
                body = await _bounded_body(response)
                return Reply(response.status, response.headers, body, endpoint)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(str(error) or "no connection in time") from error
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            raise Cut(str(error) or "no answer in time") from error

    async def open_stream(self, endpoint: str, request: Request, silence_s: float) -> Stream:
        try:
            response = await self._opened().request(
                request.method,
                URL(endpoint + request.target, encoded=True),
                headers=request.headers,
                timeout=self._timeout(None, silence_s),
                ssl=self._ssl,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(str(error) or "no connection in time") from error
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            raise Cut(str(error) or "no answer in time") from error
        stream = HttpStream(response, endpoint)
        self._streams.add(stream)
        return stream

    async def close(self) -> None:
        for stream in list(self._streams):
            stream.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > REPLY_BYTES_MAX:
            raise Cut(f"reply larger than {REPLY_BYTES_MAX} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


class HttpStream:
    """Lines of a response body, with a bound on each."""

    def __init__(self, response: aiohttp.ClientResponse, endpoint: str) -> None:
        self._response = response
        self._buffer = bytearray()
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.endpoint = endpoint

    async def line(self) -> bytes | None:
        scanned = 0
        while (end := self._buffer.find(b"\n", scanned)) < 0:
            scanned = len(self._buffer)
            if scanned > LINE_BYTES_MAX:
                raise Cut(f"line longer than {LINE_BYTES_MAX} bytes")
            try:
                chunk = await self._response.content.readany()
            except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
                raise Cut(str(error) or "silence on the stream") from error
            if not chunk:
                return None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def close(self) -> None:
        self._response.close()
