"""HTTP/1.1 on a connection: bytes in, messages out, replies as ready-made bytes. Knows nothing of the API."""
