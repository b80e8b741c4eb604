"""Write the steps of a session without losing one or writing one twice, and read them back. No event loop needed."""

from hive_client import SequenceMismatch, SyncClient


def main() -> None:
    """Append events to a session and read them back."""
    with SyncClient() as client:
        session = client.sessions.create(title="refactor the parser", user="ada")
        log = client.sessions
        log.append(session.session_id, type="plan.created", data={"steps": 2}, actor="planner")
        last = log.append_batch(
            session.session_id,
            [
                {"type": "tool.called", "data": {"tool": "grep"}, "usage": {"input_tokens": 120, "output_tokens": 30}},
                {"type": "tool.completed", "data": {"hits": 7}},
            ],
            expected_seq=1,
        )
        try:
            # Only if nobody wrote since: the way two agents share one log without overlooking each other.
            log.append(session.session_id, type="custom.decision", data="split the file", expected_seq=1)
        except SequenceMismatch as error:
            print(f"somebody wrote up to {error.last_seq}; read first, then decide")
        for event in log.iterate_events(session.session_id):
            print(event.seq, event.type, event.data)
        stats = log.get(session.session_id).stats
        print(f"{last.last_seq} events, {stats.input_tokens if stats else 0} tokens in")


if __name__ == "__main__":
    main()
