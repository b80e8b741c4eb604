"""Paths that API.md reserves and this version does not serve: 501, so that clients can tell them from typos."""

from __future__ import annotations

RESERVED: tuple[tuple[str, str, str], ...] = (
    # (method or "*", path, what it will be); a path that ends in /** takes all below it
    ("*", "/", "the dashboard"),
    ("*", "/ws", "the WebSocket"),
    ("*", "/mcp", "MCP"),
    ("GET", "/api/sessions/{session_id}/state", "state at a point of a session"),
    ("POST", "/api/sessions/{session_id}/fork", "forking sessions"),
    ("*", "/api/sessions/{session_id}/snapshots/**", "snapshots of sessions"),
    ("GET", "/api/sessions/{session_id}/tree", "the tree of sessions"),
    ("GET", "/api/sessions/{session_id}/export", "export of sessions"),
    ("POST", "/api/sessions/{session_id}/replay", "replay of sessions"),
    ("POST", "/api/sessions/import", "import of sessions"),
    ("GET", "/api/agents/{agent_id}/metrics", "metrics of agents over time"),
    ("GET", "/api/agents/{agent_id}/inbox", "messages"),
    ("*", "/api/memories/**", "memories"),
    ("*", "/api/search/**", "search"),
    ("*", "/api/decisions/**", "decisions"),
    ("*", "/api/state/**", "state"),
    ("*", "/api/messages/**", "messages"),
    ("*", "/api/locks/**", "locks"),
    ("*", "/api/transactions", "transactions"),
    ("*", "/api/blobs/**", "blobs"),
    ("*", "/api/auth/**", "authentication"),
    ("*", "/api/audit/**", "the audit log"),
    ("*", "/api/alerts/**", "alerts"),
    ("*", "/api/webhooks/**", "webhooks"),
    ("*", "/api/backup/**", "backup"),
    ("*", "/api/context/**", "context"),
    ("*", "/api/workflows/**", "workflows"),
    ("*", "/api/executions/**", "workflows"),
    ("*", "/api/mcp-servers/**", "MCP servers"),
    ("*", "/api/sync/**", "synchronisation"),
)
