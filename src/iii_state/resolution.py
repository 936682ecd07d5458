"""Which value of a setting wins, and where it came from.

Flags of `serve` win over the environment, that over the configuration file, that over the defaults.
Every value is checked, also one that another overrules: a wrong line in a file is never in silence.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from iii_state.errors import ConfigurationError
from iii_state.settings import BY_NAME, ENVIRONMENT_PREFIX, SETTINGS, Settings

CLIENT_VARIABLES = frozenset({"III_STATE_CONFIG", "III_STATE_OUTPUT"})
"""Variables with our prefix that are no settings: the commands read them."""

_TOKENS = frozenset({"token", "token_file"})


class Given(msgspec.Struct, frozen=True):
    """A value as somebody wrote it, and where: `config.yaml:7`, a variable, a flag."""

    value: object
    where: str


class Resolved(msgspec.Struct, frozen=True):
    """Settings, and for each that was given, where it came from."""

    settings: Settings
    origins: Mapping[str, str]
    notices: tuple[str, ...] = ()

    def changed(self) -> dict[str, tuple[str, str]]:
        """The settings that differ from their defaults: value as text (secrets masked), origin."""
        return {
            row.name: (row.show(value), self.origins[row.name])
            for row in SETTINGS
            if (value := getattr(self.settings, row.name)) != row.default
        }


def resolve(*layers: Mapping[str, Given], notices: Sequence[str] = ()) -> Resolved:
    """Settings from layers of what was given, the strongest first.

    Raises:
        ConfigurationError: a value that is not allowed, or values that exclude each other.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _refuse_two_tokens(layer)
        has_token = not _TOKENS.isdisjoint(values)
        for name, given in layer.items():
            parsed = BY_NAME[name].parse(given.value, given.where)
            if name in values or (has_token and name in _TOKENS):
                continue
            values[name] = parsed
            origins[name] = given.where
    # The original's way to write "no limit".
    values["max_value_bytes"] = values.get("max_value_bytes") or None
    settings = _with_token(Settings(**values), origins)
    _check(settings, origins)
    remarks = list(notices)
    if "sync_interval_ms" in origins and settings.durability != "interval":
        remarks.append(
            f"{origins['sync_interval_ms']}: the interval has no effect with durability "
            f"{settings.durability}"
        )
    return Resolved(settings, origins, tuple(remarks))


def from_environment(environ: Mapping[str, str]) -> tuple[dict[str, Given], list[str]]:
    """The settings among environment variables, and remarks on those that look like one.

    Kubernetes puts `III_STATE_PORT=tcp://...` and the like into every pod beside a service called
    `iii-state`; such values are no settings and are passed over.
    """
    given: dict[str, Given] = {}
    notices: list[str] = []
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in CLIENT_VARIABLES:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in BY_NAME:
            notices.append(
                f"environment variable {variable} is no setting{suggestion(name, BY_NAME)}"
            )
        elif name == "port" and value.startswith("tcp://"):
            notices.append(f"environment variable {variable}={value} is no port; passed over")
        else:
            given[name] = Given(value, f"environment variable {variable}")
    return given, notices


def suggestion(name: str, names: Iterable[str]) -> str:
    """A "did you mean" for a name that is none of `names`, or nothing."""
    near = get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address. Names other than localhost: no."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(path: Path, where: str) -> str:
    """The token on a file's first line.

    Raises:
        ConfigurationError: the file cannot be read, or holds no usable token.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"{where}: cannot read {path}: {reason}") from error
    lines = text.splitlines()
    return check_token(lines[0].strip() if lines else "", f"{where}: the first line of {path}")


def check_token(token: str, what: str) -> str:
    """The token itself, if it can travel in a header.

    Raises:
        ConfigurationError: it is empty, or has characters that a header cannot carry.
    """
    if not token or not all("!" <= character <= "~" for character in token):
        raise ConfigurationError(
            f"{what} is no token; it must be one or more visible ASCII characters without spaces",
            setting="token",
        )
    return token


def _refuse_two_tokens(layer: Mapping[str, Given]) -> None:
    if "token" in layer and "token_file" in layer:
        raise ConfigurationError(
            f"{layer['token'].where} and {layer['token_file'].where} both give a token; "
            "give one of the two",
            setting="token",
        )


def _with_token(settings: Settings, origins: dict[str, str]) -> Settings:
    if settings.token_file is not None:
        where = origins["token_file"]
        token = read_token(settings.token_file, where)
        origins["token"] = where
        return msgspec.structs.replace(settings, token=token)
    if settings.token is not None:
        check_token(settings.token, f"{origins['token']}: token")
    return settings


def _check(settings: Settings, origins: Mapping[str, str]) -> None:
    if not (is_loopback(settings.host) or settings.token or settings.insecure):
        raise ConfigurationError(
            f"{origins['host']}: listening on {settings.host} would let anybody on the network "
            "read and write all state",
            setting="host",
            hint="give a token (--token-file FILE or III_STATE_TOKEN), listen on 127.0.0.1, "
            "or say --insecure",
        )
    if settings.frame_bytes_max > settings.message_bytes_max:
        raise ConfigurationError(
            f"frame_bytes_max ({settings.frame_bytes_max}) must not be more than "
            f"message_bytes_max ({settings.message_bytes_max})",
            setting="frame_bytes_max",
        )
