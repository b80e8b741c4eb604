"""Which node to talk to: stay with one that answers, leave one that does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from urllib.parse import urlsplit

ENDPOINTS_MAX = 64
DEFAULT_ENDPOINT = "http://127.0.0.1:7400"
ENVIRONMENT_VARIABLE = "HIVE_ENDPOINTS"


def parse_endpoints(endpoints: str | Iterable[str] | None) -> list[str]:
    """Base URLs from a comma-separated string, a list, or (None) the environment variable ``HIVE_ENDPOINTS``.

    ``host:port`` means ``http://host:port``. Raises ValueError for what is not an http(s) base URL.
    """
    if endpoints is None:
        endpoints = os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_ENDPOINT
    parts = endpoints.split(",") if isinstance(endpoints, str) else list(endpoints)
    urls = list(dict.fromkeys(_normal(part) for part in parts if part.strip()))
    if not urls:
        raise ValueError("no endpoint given; say for example http://127.0.0.1:7400")
    if len(urls) > ENDPOINTS_MAX:
        raise ValueError(f"{len(urls)} endpoints; at most {ENDPOINTS_MAX} are supported")
    return urls


def _normal(text: str) -> str:
    url = text.strip()
    if "://" not in url:
        url = f"http://{url}"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not an endpoint; say for example http://127.0.0.1:7400")
    return url.rstrip("/")


class EndpointPool:
    """The known endpoints and the one in use. ``on_failed`` hears of each that gave no answer."""

    def __init__(self, endpoints: list[str]) -> None:
        self._endpoints = list(endpoints)
        self._current = 0
        self.on_failed: Callable[[], None] = lambda: None

    @property
    def known(self) -> tuple[str, ...]:
        return tuple(self._endpoints)

    @property
    def current(self) -> str:
        return self._endpoints[self._current]

    def pick(self, tried: Collection[str] = ()) -> str | None:
        """The endpoint in use, or the next one that was not tried yet; None when all were."""
        count = len(self._endpoints)
        ring = (self._endpoints[(self._current + step) % count] for step in range(count))
        return next((endpoint for endpoint in ring if endpoint not in tried), None)

    def failed(self, endpoint: str) -> None:
        """Move on, unless another call has done so already."""
        if endpoint == self.current:
            self._current = (self._current + 1) % len(self._endpoints)
        self.on_failed()

    def answered(self, endpoint: str) -> None:
        self._current = self._endpoints.index(endpoint)

    def learn(self, endpoints: Iterable[str]) -> None:
        """Add members' addresses; never removes one, since a node that is down now may be the only one up later."""
        for endpoint in endpoints:
            try:
                url = _normal(endpoint)
            except ValueError:
                continue
            if url not in self._endpoints and len(self._endpoints) < ENDPOINTS_MAX:
                self._endpoints.append(url)
