"""Replies as bytes."""

from __future__ import annotations

from node.http.message import HttpMessage

REASONS = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}


class WireReply:
    """A whole reply. `head` are its header lines, each ended, without the status line and what is about the connection.

    `body` is what a GET would get: of a reply to HEAD it is not sent.
    """

    __slots__ = ("body", "head", "status")

    def __init__(self, status: int, head: str, body: bytes) -> None:
        self.status = status
        self.head = head
        self.body = body

    def encode(self, message: HttpMessage) -> bytes:
        """The bytes of the reply to this message."""
        connection = ""
        if not message.keep_alive:
            connection = "Connection: close\r\n"
        elif message.minor_version == 0:
            connection = "Connection: keep-alive\r\n"
        head = f"HTTP/1.1 {self.status} {REASONS[self.status]}\r\n{self.head}{connection}\r\n".encode("latin-1")
        return head if message.method == "HEAD" else head + self.body
