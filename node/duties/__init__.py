"""What only the leader does, and remembers only while it leads. See DESIGN.md."""
