"""The command `iii-state`. Also a composition root: some commands open stores.

Commands live one file per command or small group, and are imported only when they run, so that
`--help` and `get` are quick. To add one: write it, give it a row in `COMMANDS`; a test compares the
help there with the command's own.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from iii_state import __version__
from iii_state.cli.exits import INTERRUPTED, OK, report, report_usage
from iii_state.errors import StateError

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve:serve", "Start the server in the foreground."),
    "get": ("values:get", "Print the value of a key."),
    "set": ("values:set_", "Write the value of a key."),
    "delete": ("values:delete", "Remove a key and print the value it had."),
    "update": ("update:update", "Change parts of a value in one atomic step."),
    "list": ("listing:list_", "Print all values of a scope, oldest key first."),
    "keys": ("listing:keys", "Print the names of all keys of a scope, in alphabetical order."),
    "scopes": (
        "listing:scopes",
        "Print the names of all scopes that hold a key, in alphabetical order.",
    ),
    "call": ("call:call", "Call a function of the server or of a worker."),
    "watch": ("watch:watch", "Print changes as they happen."),
    "history": ("history:history", "Print the versions of a key, newest first."),
    "triggers": ("triggers:triggers", "Show, pause, resume or delete triggers."),
    "dlq": ("dlq:dlq", "Show, redrive or discard dead letters."),
    "check": ("stores:check", "Verify a data directory while no server runs on it."),
    "dump": ("stores:dump", "Write all entries of a data directory as lines of JSON."),
    "migrate": (
        "migrate:migrate",
        "Move the data of the original iii engine into a new data directory.",
    ),
    "version": ("version:version", "Print the version."),
}
"""Name to where it is (module of this package, attribute) and its one line of help."""


class Commands(click.Group):
    """Imports a command when it is asked for; turns every failure into lines and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in `--help`, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; end in peace when its reader has had enough, as in `... | head`."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is left unwritten would be written again, and fail again, at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return OK
        return code

    def main(self, *args: Any, **options: Any) -> Any:
        """Run, and exit with a code from `iii_state.cli.exits`."""
        sys.exit(self._run(*args, **options | {"standalone_mode": False}))

    def _run(self, *args: Any, **options: Any) -> int:
        try:
            code = super().main(*args, **options)
        except click.ClickException as error:
            return report_usage(error)
        except StateError as error:
            return report(error)
        except (KeyboardInterrupt, click.Abort):
            return INTERRUPTED
        return code if isinstance(code, int) else OK


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`iii-state COMMAND --help` explains a command, with examples. "
    "Exit codes and environment variables: docs/cli.md.",
)
@click.version_option(__version__, message="iii-state %(version)s")
def cli() -> None:
    """Durable, reactive key-value state for iii workers and Python programs.

    Start a server, then read, write and watch from another terminal:

    \b
      iii-state serve
      iii-state set users alice '{"name": "Alice"}'
      iii-state get users alice
      iii-state watch users
    """


def main() -> None:
    """What the installed command runs."""
    cli.main(prog_name="iii-state")
