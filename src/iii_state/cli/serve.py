"""`serve`: reads the settings, opens the store, runs the host until a signal comes.

This is where the object graph is built; nothing else opens a store for a server.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop

from iii_state import __version__
from iii_state.cli.descriptors import make_room, require_descriptors
from iii_state.cli.exits import OK, report
from iii_state.clock import wall_clock_ms
from iii_state.configuration import Configuration, read_configuration
from iii_state.core.store import Store
from iii_state.errors import StateError
from iii_state.logs import configure
from iii_state.resolution import Given, Resolved, from_environment, resolve
from iii_state.settings import SETTINGS, Setting, Settings

log = logging.getLogger("iii_state.serve")

RISKS = {
    "interval": "a power cut can lose the writes of the last {0.sync_interval_ms} ms",
    "none": "a power cut can lose every write that the system has not put on disk by itself",
}


def setting_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add a flag for every setting that has one."""
    for row in reversed(SETTINGS):
        if row.flag:
            command = _flag(row)(command)
    return command


def _flag(row: Setting) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    help_ = row.about.help.replace("`", "") + f"  [default: {row.show(row.default)}]"
    if row.kind == "flag":
        return click.option(row.flag, row.name, is_flag=True, default=None, help=row.about.help)
    metavar = "|".join(row.choices) or (row.about.unit or row.kind).upper()
    return click.option(row.flag, row.name, metavar=metavar, help=help_)


@click.command(short_help="Start the server in the foreground.")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="III_STATE_CONFIG",
    show_envvar=True,
    help="A config.yaml as the iii engine has it.",
)
@setting_flags
def serve(config: Path | None, **flags: object) -> int:
    """Start the server in the foreground.

    Data is kept in ./data, and a write is on disk before it is answered. SIGTERM or Ctrl-C stops in
    order: what is in flight is answered first.

    Every setting can be given as an environment variable too (III_STATE_PORT=...), or in a file;
    flags win over the environment, the environment wins over the file. All settings:
    docs/configuration.md.

    \b
    Examples:
      iii-state serve
      iii-state serve --data-dir /var/lib/iii-state --port 49134
      iii-state serve --config config.yaml
      iii-state serve --host 0.0.0.0 --token-file /run/secrets/token
      iii-state serve --in-memory --log-format json
    """
    try:
        resolved, configuration = read_settings(config, flags, dict(os.environ))
        settings = resolved.settings
        configure(settings.log_format, settings.log_level, lines_max=settings.log_lines_max)
        require_descriptors()
        uvloop.run(_serve(resolved, configuration))
    except StateError as error:
        return report(error)
    return OK


def read_settings(
    config: Path | None, flags: dict[str, object], environ: dict[str, str]
) -> tuple[Resolved, Configuration]:
    """The settings in force, and what the file said beside them.

    Raises:
        ConfigurationError: a setting is unknown or wrong.
    """
    given_flags = {
        name: Given(value, f"flag --{name.replace('_', '-')}")
        for name, value in flags.items()
        if value is not None
    }
    environment, notices = from_environment(environ)
    configuration = Configuration({}, (), ())
    if config is not None:
        configuration = read_configuration(config, environ, __version__)
    notices += configuration.notices
    return resolve(given_flags, environment, configuration.given, notices=notices), configuration


async def _serve(resolved: Resolved, configuration: Configuration) -> None:
    from iii_state.host.server import open_server
    from iii_state.stores.opening import open_store

    settings = _fit_to_descriptors(resolved.settings)
    stop = _stop_signal()
    started_s = time.monotonic()
    store = await open_store(settings, wall_clock_ms)
    try:
        # What has been loaded stays; the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
        _tell_start(resolved, configuration, store)
        async with AsyncExitStack() as stack:
            try:
                server = await stack.enter_async_context(open_server(settings, store))
            except OSError as error:
                raise _cannot_listen(settings, error) from error
            seconds = round(time.monotonic() - started_s, 3)
            log.info("listening", extra={"address": server.address, "seconds": seconds})
            log.info("stopping", extra={"signal": await stop})
    finally:
        await store.close()
    log.info("stopped", extra={"revision": store.revision})


def _fit_to_descriptors(settings: Settings) -> Settings:
    """Take no more connections than there are file descriptors for."""
    room = make_room(settings.connections_max)
    if room == settings.connections_max:
        return settings
    log.warning(
        "the system allows file descriptors for %d connections only, not for connections_max = %d; "
        "raise its limit (ulimit -n, LimitNOFILE=)",
        room,
        settings.connections_max,
    )
    return msgspec.structs.replace(settings, connections_max=room)


def _tell_start(resolved: Resolved, configuration: Configuration, store: Store) -> None:
    settings = resolved.settings
    info = store.info()
    facts = {
        "version": __version__,
        "data": "memory" if settings.in_memory else str(settings.data_dir.absolute()),
        "durability": info.durability,
        "revision": info.revision,
        "keys": info.keys,
    }
    log.info("iii-state starts", extra=facts)
    for name, (value, origin) in resolved.changed().items():
        log.info("setting %s = %s", name, value, extra={"origin": origin})
    for notice in resolved.notices:
        log.warning(notice)
    if configuration.ignored:
        log.info("workers in the file that are not ours: %s", ", ".join(configuration.ignored))
    if settings.in_memory:
        log.warning("nothing is kept on disk: all data is gone when the server stops")
    elif settings.durability in RISKS:
        log.warning(RISKS[settings.durability].format(settings))
    if settings.insecure and not settings.token:
        log.warning("anybody who reaches %s can read and write all state", settings.host)


def _stop_signal() -> asyncio.Future[str]:
    """Done at the first SIGTERM or SIGINT; a second one then ends the program as it does any."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str] = loop.create_future()

    def on_signal(number: signal.Signals) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
        stop.set_result(number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def _cannot_listen(settings: Settings, error: OSError) -> StateError:
    reason = os.strerror(error.errno or 0) if (error.errno or 0) > 0 else str(error)
    hint = "choose another with --port or --host"
    if error.errno == errno.EADDRINUSE:
        hint = "another server may be running there; choose another port with --port"
    return StateError(
        f"cannot listen on {settings.host} port {settings.port}: {reason}",
        code="CANNOT_LISTEN",
        hint=hint,
    )
