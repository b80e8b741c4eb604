"""A task, a worker that does it, and its result. Needs a running node: ``hive node``."""

import asyncio

from hive_client import Client, TaskContext, Worker


async def main() -> None:
    """Submit one task, do it, print its result."""
    async with Client() as client:  # HIVE_ENDPOINTS, or http://127.0.0.1:7400
        worker = Worker(client, agent_id="greeter")

        @worker.task("greet")
        async def greet(context: TaskContext) -> str:
            return f"Hello, {context.payload['name']}!"

        working = asyncio.create_task(worker.run())
        task = await client.tasks.create(type="greet", payload={"name": "Hive"})
        done = await client.tasks.wait(task.task_id, timeout_s=30)
        print(done.status, done.result)
        worker.drain()
        await working


if __name__ == "__main__":
    asyncio.run(main())
