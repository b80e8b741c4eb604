"""Follow everything that happens to tasks: first what is there, then each change, without a gap between."""

import asyncio
import sys

from hive_client import Client, Compacted


async def follow(client: Client) -> None:
    """Print every change until it is interrupted."""
    page = await client.tasks.list(limit=1)
    known = {task.task_id: task.status async for task in client.tasks.iterate()}
    print(f"{len(known)} tasks at revision {page.revision}")
    async with client.changes.watch(from_revision=page.revision + 1, topics="tasks") as changes:
        async for message in changes:
            for change in message.changes:
                print(message.revision, change.type, change.resource_id)


async def main() -> None:
    """Follow the changes of one project."""
    async with Client(sys.argv[1] if len(sys.argv) > 1 else None) as client:
        while True:
            try:
                await follow(client)
            except Compacted:
                print("too far behind; starting again from a fresh list")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
