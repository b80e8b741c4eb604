"""The HTTP API of a node: one table of routes, parsed and answered the same way. See ../DESIGN.md."""
