"""What the cluster agrees on: a pure function from (state, log entry) to (writes, outcomes). See
DESIGN.md."""
