"""Every setting there is: one table, from which everything else about settings is made.

The fields of `Settings` are the table: name, type, default and, in the annotation, what it is for,
its bounds and where it may be given. `SETTINGS` is that table as data; the configuration file, the
environment, the flags of `serve`, the start banner and `docs/configuration.md` read nothing else.
Which of several given values wins is decided in `iii_state.resolution`.

To add a setting: add a field here. A test then asks for its row in the documentation.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from iii_state.errors import ConfigurationError

Section = Literal["iii-worker-manager", "iii-state"]
Durable = Literal["commit", "interval", "none"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

LISTENER: Section = "iii-worker-manager"
STATE: Section = "iii-state"

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

ENVIRONMENT_PREFIX = "III_STATE_"


class About(msgspec.Struct, frozen=True):
    """What a field of `Settings` cannot say by its name, type and default.

    `section` is the block of the configuration file it belongs to. `unit` is `bytes`, `ms`, `s`,
    `us` or nothing; settings in bytes may be written as `64MiB`. `flag` says that `serve` has one.
    """

    help: str
    section: Section = STATE
    unit: str = ""
    minimum: int | None = None
    maximum: int | None = None
    flag: bool = False
    secret: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The values in force, made by `resolution.resolve`. Defaults: durable, on loopback."""

    host: Annotated[
        str, About("Address to listen on. Any but loopback needs a token.", LISTENER, flag=True)
    ] = "127.0.0.1"
    port: Annotated[
        int,
        About("Port to listen on; 0 takes a free one.", LISTENER, "", 0, 65_535, flag=True),
    ] = 49_134
    token_file: Annotated[
        Path | None,
        About("File whose first line is the token that clients must send.", LISTENER, flag=True),
    ] = None
    token: Annotated[
        str | None,
        About("The token that clients must send, when not in a file.", LISTENER, secret=True),
    ] = None
    insecure: Annotated[
        bool, About("Allow an address other than loopback without a token.", LISTENER, flag=True)
    ] = False
    allowed_origins: Annotated[
        tuple[str, ...],
        About(
            "Origins of web pages that may connect, beside the server's own; `*` allows all.",
            LISTENER,
            flag=True,
        ),
    ] = ()
    data_dir: Annotated[Path, About("Directory that holds the data.", flag=True)] = Path("data")
    in_memory: Annotated[
        bool, About("Keep nothing on disk: everything is gone when the server stops.", flag=True)
    ] = False
    durability: Annotated[
        Durable,
        About(
            "When a write is on disk: before its reply (`commit`), at most `sync_interval_ms` "
            "later (`interval`), or when the system likes (`none`).",
            flag=True,
        ),
    ] = "commit"
    sync_interval_ms: Annotated[
        int,
        About("Time between syncs with durability `interval`.", STATE, "ms", 1, 3_600_000, True),
    ] = 1_000
    cache_bytes: Annotated[
        int, About("Memory for values read from disk.", STATE, "bytes", 0, flag=True)
    ] = 64 * MIB
    segment_bytes: Annotated[
        int, About("Size of one file of the change log.", STATE, "bytes", 64 * KIB, 2 * GIB)
    ] = 64 * MIB
    history_bytes: Annotated[
        int,
        About(
            "Changes kept for triggers, history and the feed; in memory at most 16 MiB, and 1 MiB "
            "while nobody reads them.",
            STATE,
            "bytes",
            0,
        ),
    ] = 256 * MIB
    gather_us: Annotated[
        int,
        About(
            "Longest wait for one more caller to come back and share a sync.",
            STATE,
            "us",
            0,
            100_000,
        ),
    ] = 200
    triggers_enabled: Annotated[bool, About("Whether changes fire `state` triggers.")] = True
    max_chain_depth: Annotated[
        int,
        About(
            "How long a chain of writes by handlers, each for the one before, may be; what comes "
            "then is a dead letter.",
            STATE,
            "",
            1,
            65_535,
        ),
    ] = 16
    max_value_bytes: Annotated[
        int | None,
        About("Largest value that `state::set` takes; unset or 0: no such limit.", STATE, "bytes"),
    ] = None
    value_bytes_max: Annotated[
        int, About("Largest value a key may hold, however it is written.", STATE, "bytes", 1)
    ] = 16 * MIB
    name_bytes_max: Annotated[
        int, About("Longest scope or key, in UTF-8.", STATE, "bytes", 1, MIB)
    ] = 65_536
    nesting_max: Annotated[
        int, About("Deepest nesting of arrays and objects in a value.", STATE, "", 8, 512)
    ] = 128
    ops_max: Annotated[int, About("Most operations in one `state::update`.", STATE, "", 1)] = 1_024
    connections_max: Annotated[
        int,
        About(
            "Most connections at a time, on all paths; those for telemetry may take half of them.",
            LISTENER,
            "",
            1,
            1_000_000,
        ),
    ] = 1_024
    frame_bytes_max: Annotated[
        int, About("Largest WebSocket frame a client may send.", LISTENER, "bytes", KIB, GIB)
    ] = 16 * MIB
    message_bytes_max: Annotated[
        int, About("Largest message, over all its frames.", LISTENER, "bytes", KIB, GIB)
    ] = 64 * MIB
    in_flight_max: Annotated[
        int, About("Calls of one connection that may be unanswered at a time.", LISTENER, "", 1)
    ] = 4_096
    in_flight_bytes_max: Annotated[
        int,
        About("Bytes that the unanswered writes of one connection may take.", LISTENER, "bytes", 1),
    ] = 64 * MIB
    outbound_bytes_max: Annotated[
        int,
        About(
            "Bytes waiting for a client that does not read; past it, it is cut off. From a "
            "quarter of it on, the client's own messages are read no further.",
            LISTENER,
            "bytes",
            KIB,
        ),
    ] = 128 * MIB
    stall_timeout_s: Annotated[
        float,
        About(
            "How long a client for which that quarter waits may take nothing of it.",
            LISTENER,
            "s",
            1,
            3_600,
        ),
    ] = 60.0
    registrations_max: Annotated[
        int,
        About(
            "Functions that one connection may register; as many triggers, and trigger types.",
            LISTENER,
            "",
            1,
        ),
    ] = 10_000
    registration_bytes_max: Annotated[
        int, About("Largest message that registers something.", LISTENER, "bytes", KIB)
    ] = 4 * MIB
    handshake_timeout_s: Annotated[
        float, About("Time to finish the WebSocket handshake.", LISTENER, "s", 1, 3_600)
    ] = 10.0
    namespace_grace_ms: Annotated[
        int,
        About(
            "How long registrations wait for a worker to name its namespace.",
            LISTENER,
            "ms",
            0,
            600_000,
        ),
    ] = 5_000
    resume_window_s: Annotated[
        float,
        About("How long a trigger's place is kept for a worker to return.", LISTENER, "s", 0),
    ] = 60.0
    stop_grace_s: Annotated[
        float, About("How long a stop waits for calls that workers run.", LISTENER, "s", 0, 3_600)
    ] = 5.0
    log_format: Annotated[
        LogFormat,
        About("How log lines look: `text` (coloured on a terminal), or `json`.", flag=True),
    ] = "text"
    log_level: Annotated[LogLevel, About("Least severe lines to log.", flag=True)] = "info"
    log_lines_max: Annotated[
        int, About("Lines of one kind that are logged in a minute; others are counted.", minimum=1)
    ] = 100

    def __repr__(self) -> str:
        shown = ", ".join(f"{row.name}={row.show(getattr(self, row.name))}" for row in SETTINGS)
        return f"Settings({shown})"


class Setting(msgspec.Struct, frozen=True):
    """One row of the table."""

    name: str
    kind: Literal["text", "path", "flag", "integer", "number", "choice", "list"]
    optional: bool
    default: Any
    choices: tuple[str, ...]
    about: About

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The flag of `serve` that sets it, or nothing."""
        return "--" + self.name.replace("_", "-") if self.about.flag else ""

    @property
    def allowed(self) -> str:
        """What may be given, as the end of the sentence "it must be ..."."""
        about = self.about
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "flag":
            return "true or false"
        if self.kind in ("integer", "number"):
            noun = "a whole number" if self.kind == "integer" else "a number"
            of_unit = f" of {about.unit}" if about.unit else ""
            return noun + of_unit + self._bounds() + (", or like 64MiB" if self._in_bytes else "")
        return {"text": "text", "path": "a path", "list": "text, with commas between items"}[
            self.kind
        ]

    def parse(self, given: object, where: str) -> Any:
        """The value that `given` (text, or what YAML made of it) means.

        Raises:
            ConfigurationError: it is not `allowed`; names the setting, `where`, and what is.
        """
        value = self._read(given)
        if value is None and not (self.optional and given in (None, "")):
            shown = "***" if self.about.secret else repr(given)
            raise ConfigurationError(
                f"{where}: {self.name} is {shown}; it must be {self.allowed}", setting=self.name
            )
        return value

    def show(self, value: object) -> str:
        """A value as people write it; secrets are masked."""
        if value is None:
            return "unset"
        if self.about.secret:
            return "***"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return ",".join(value) or "none"
        if self._in_bytes and isinstance(value, int):
            return _show_bytes(value)
        return f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def _in_bytes(self) -> bool:
        return self.about.unit == "bytes"

    def _bounds(self) -> str:
        low, high = self.about.minimum or 0, self.about.maximum
        if high is not None:
            return f" from {self.show(low)} to {self.show(high)}"
        return f", at least {self.show(low)}" if low else ""

    def _read(self, given: object) -> Any:
        if self.kind == "choice":
            return given if given in self.choices else None
        if self.kind in ("integer", "number"):
            return self._read_number(given)
        return _READERS[self.kind](given)

    def _read_number(self, given: object) -> int | float | None:
        number = _number(given, in_bytes=self._in_bytes)
        if number is None or (self.kind == "integer" and int(number) != number):
            return None
        low, high = self.about.minimum, self.about.maximum
        if number < (low or 0) or (high is not None and number > high):
            return None
        return int(number) if self.kind == "integer" else float(number)


_FLAG_WORDS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE | re.ASCII)
_BYTE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
}


def _number(given: object, *, in_bytes: bool) -> int | float | None:
    if isinstance(given, int | float) and not isinstance(given, bool):
        return given if math.isfinite(given) else None
    match = _NUMBER.fullmatch(given.strip()) if isinstance(given, str) else None
    if match is None:
        return None
    digits, unit = match.groups()
    factor = _BYTE_UNITS.get(unit.lower()) if in_bytes else (None if unit else 1)
    if factor is None:
        return None
    return int(digits) * factor if "." not in digits else float(digits) * factor


def _text(given: object) -> str | None:
    # YAML reads a token of digits as a number; text was meant.
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return given if isinstance(given, str) and given else None


def _path(given: object) -> Path | None:
    text = str(given) if isinstance(given, Path) else _text(given)
    return Path(text) if text and "\0" not in text else None


def _flag(given: object) -> bool | None:
    return given if isinstance(given, bool) else _FLAG_WORDS.get(str(given).lower())


def _list(given: object) -> tuple[str, ...] | None:
    if isinstance(given, str):
        given = [item.strip() for item in given.split(",") if item.strip()]
    if not isinstance(given, list | tuple) or not all(isinstance(item, str) for item in given):
        return None
    return tuple(given)


_READERS: Mapping[str, Callable[[object], Any]] = {
    "text": _text,
    "path": _path,
    "flag": _flag,
    "list": _list,
}


def _show_bytes(count: int) -> str:
    for name, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count and count % size == 0:
            return f"{count // size}{name}"
    return str(count)


def _rows() -> tuple[Setting, ...]:
    hints = get_type_hints(Settings, include_extras=True)
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    return tuple(_row(name, hint, defaults[name]) for name, hint in hints.items())


def _row(name: str, hint: Any, default: Any) -> Setting:
    kind, about = get_args(hint)
    optional = get_origin(kind) in (Union, types.UnionType)
    if optional:
        kind = next(part for part in get_args(kind) if part is not types.NoneType)
    if get_origin(kind) is Literal:
        return Setting(name, "choice", optional, default, get_args(kind), about)
    plain = {str: "text", Path: "path", bool: "flag", int: "integer", float: "number"}
    return Setting(name, plain.get(kind, "list"), optional, default, (), about)  # type: ignore[arg-type]


SETTINGS: tuple[Setting, ...] = _rows()
"""The table, in the order of the documentation."""

BY_NAME: Mapping[str, Setting] = {row.name: row for row in SETTINGS}
