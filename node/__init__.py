"""One machine's node: settings, the composition root, the HTTP API, the leader's duties. See DESIGN.md."""
