"""How a state machine is replicated and made durable. `replica.Replica` is its only face. See DESIGN.md."""
