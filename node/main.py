"""The composition root: settings, logs, replica, duties, API; and the same in reverse."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence

import uvloop

from cluster.replica import Replica
from cluster.settings import SettingsError
from cluster.start import StartError, open_replica
from node import config, logs
from node.api.app import App, Server
from node.api.context import Api
from node.api.routes import make_router
from node.config import HelpRequested, Settings
from node.duties.clock import LoopClock
from node.duties.duties import Duties
from node.http.server import bind
from node.join import Joined, join
from node.metrics import NodeMetrics
from node.version import VERSION
from statemachine import machine

THREAD_SWITCH_S = 0.0001
"""How long the loop's thread may keep the interpreter from the log's thread. With Python's 5 ms a busy node would hear
of each fsync up to 5 ms late."""

GARBAGE_THRESHOLDS = (20_000, 5, 80)
"""Requests and entries are made of many small objects that die young and without the collector; with Python's 700 it
would look at them all the time, for a tenth of what a batch costs. What has survived is looked at again soon, so that
a leader that has just met ten thousand agents does not stand still for all of them at once."""

EXIT_FAILED = 1
EXIT_USAGE = 2
READY_CHECK_S = 0.02
"""A follower becomes ready without anything happening that it could be told of, so it is looked at: until then."""

log = logging.getLogger("hive.node")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a node until it is told to stop; returns the exit status."""
    try:
        settings = config.load(sys.argv[1:] if arguments is None else arguments, os.environ)
    except HelpRequested as answer:
        sys.stdout.write(str(answer))
        return 0
    except SettingsError as error:
        sys.stderr.write(f"hive node: {error}\n")
        return EXIT_USAGE
    logs.configure(settings.log_level, settings.log_format)
    for warning in settings.warnings:
        log.warning(warning)
    sys.setswitchinterval(THREAD_SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (StartError, SettingsError) as error:
        sys.stderr.write(f"hive node: {error}\n")
        return EXIT_FAILED
    return 0


async def serve(settings: Settings) -> None:
    """Start, serve, stop. Raises StartError for what must be put right before a start."""
    stopping = _on_signals()
    _allow_many_connections()
    address = settings.http_bind
    try:
        # Bound before the data is opened, so that a port in use leaves the data untouched.
        listener = bind(address.host, address.port)
    except OSError as error:
        raise StartError(
            f"cannot serve on {address}: {error.strerror}; stop what uses it, or give another --http"
        ) from error
    try:
        joined = await _join(settings, stopping)
        if stopping.is_set():
            listener.close()
            return
        replica = await open_replica(settings.replica_options(joined), machine.apply)
    except BaseException:
        listener.close()
        raise
    duties = Duties(replica, LoopClock(), settings.duty_settings())
    api = Api(replica, VERSION, auto_create_projects=settings.auto_create_projects, live=duties.live)
    api.provide(duties)
    api.provide(NodeMetrics(replica, api.traffic, VERSION))
    server = Server(App(api, make_router()))
    try:
        port = await server.start(listener)
        # What was made so far lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        log.info("serving", extra={"node": replica.node_id, "http": f"{address.host}:{port}", "version": VERSION})
        announcing = asyncio.create_task(_announce_ready(replica))
        await stopping.wait()
        announcing.cancel()
    finally:
        log.info("stopping", extra={"node": replica.node_id})
        server.stop_accepting()
        duties.close()
        await server.stop(settings.shutdown_timeout_ms / 1_000)
        await replica.close()
        log.info("stopped", extra={"node": replica.node_id})


async def _join(settings: Settings, stopping: asyncio.Event) -> Joined | None:
    """Come into the cluster named by --join, unless this node's data says already who it is. Raises StartError."""
    joining = settings.joining()
    if joining is None or settings.has_data():
        return None
    work, stop = asyncio.ensure_future(join(joining)), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        work.cancel()
        stop.cancel()


def _on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. A second one ends the process at once: the log is durable anyway."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            log.warning("stopped at once by a second signal")
            os._exit(EXIT_FAILED)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopping


def _allow_many_connections() -> None:
    """Agents hold one connection each: take as many file descriptors as are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _announce_ready(replica: Replica) -> None:
    """One line when a leader is known and everything it had committed is applied here, as `/readyz` sees it."""
    while replica.leader_id is None or not replica.status().ready:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(READY_CHECK_S)
    log.info("ready", extra={"node": replica.node_id, "leader": replica.leader_id, "revision": replica.revision})
