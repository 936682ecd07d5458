"""The original's `config.yaml`, read as settings.

The file is text first: `${NAME:default}` is replaced before YAML sees it. Then it is walked as YAML
nodes rather than as values, so that every complaint names the file and the line. What belongs to
other workers is left alone and listed; what belongs to us and is not understood is refused, as a
setting that is silently ignored is the worst kind.

To accept another member of the original's: add it to the reader of its block below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import yaml

from iii_state.errors import ConfigurationError
from iii_state.resolution import Given, suggestion
from iii_state.settings import BY_NAME, LISTENER, SETTINGS, STATE, Section

_ROOT_MEMBERS = ("workers", "registration_namespace_grace_ms")
STATE_NAMES = ("iii-state", "state", "modules::state::StateModule")
KV_NAMES = ("kv", "modules::state::adapters::KvStore")
SAVE_INTERVAL_MS_MIN = 100
SAVE_INTERVAL_MS_MAX = 3_600_000
ENGINE_VERSION = "__III_ENGINE_VERSION__"
"""A default that stands for the version of the engine, which here is ours."""

_ADAPTERS_ELSEWHERE = ("redis", "bridge", "nats", "RedisAdapter", "BridgeAdapter")
_GUARDS_ELSEWHERE = ("rbac", "middleware_function_id")
_PLACEHOLDER = re.compile(r"\$\{([^}:]+)(?::([^}]*))?\}")


class Configuration(msgspec.Struct, frozen=True):
    """What a file says: settings, the workers in it that are not ours, and remarks for the log."""

    given: Mapping[str, Given]
    ignored: tuple[str, ...]
    notices: tuple[str, ...]


class Block(msgspec.Struct, frozen=True):
    """A YAML mapping with the place of every member."""

    what: str
    members: Mapping[str, tuple[yaml.Node, str]]
    where: str


def read_configuration(path: Path, environ: Mapping[str, str], version: str) -> Configuration:
    """Read a `config.yaml`.

    Raises:
        ConfigurationError: it cannot be read, is no YAML, refers to a variable that is not set, or
            has members that are unknown or wrong. The message begins with file and line.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read it: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: it is not UTF-8 text") from error
    return parse_configuration(text, str(path), environ, version)


def parse_configuration(
    text: str, file: str, environ: Mapping[str, str], version: str
) -> Configuration:
    """What the text of a `config.yaml` says. `file` is its name in messages.

    Raises:
        ConfigurationError: as for `read_configuration`.
    """
    return _Reader(file).read(expand(text, file, environ, version))


def expand(text: str, file: str, environ: Mapping[str, str], version: str) -> str:
    """Replace each `${NAME}` and `${NAME:default}`.

    A variable that is set wins over the default, even when it is empty. No nesting, no escaping.

    Raises:
        ConfigurationError: a variable without a default is not set.
    """

    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        value = environ.get(name, default)
        if value is None:
            line = text.count("\n", 0, match.start()) + 1
            raise ConfigurationError(
                f"{file}:{line}: the environment variable {name} is not set; set it, or give a "
                f"default as in ${{{name}:default}}",
                file=file,
                line=line,
            )
        return version if value == ENGINE_VERSION else value

    return _PLACEHOLDER.sub(replace, text)


class _Reader:
    """Walks one file, collecting what it says."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._given: dict[str, Given] = {}
        self._ignored: list[str] = []
        self._notices: list[str] = []

    def read(self, text: str) -> Configuration:
        try:
            root = self._compose(text)
            if root is not None:
                self._read_root(self._block(root, "the file"))
        except RecursionError as error:
            raise ConfigurationError(f"{self._file}: it is nested too deeply") from error
        return Configuration(self._given, tuple(self._ignored), tuple(self._notices))

    def _compose(self, text: str) -> yaml.Node | None:
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            where = f"{self._file}:{line}"
            raise _wrong(where, f"this is not YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{self._file}: this is not YAML: {error}") from error

    def _read_root(self, root: Block) -> None:
        for name, (node, where) in root.members.items():
            if name in ("workers", "modules"):
                continue
            if name == "registration_namespace_grace_ms":
                self._give("namespace_grace_ms", node, where)
            elif name == "port" and "modules" in root.members:
                self._give("port", node, where)
            else:
                raise _unknown(name, "the root of the file", _ROOT_MEMBERS, where)
        seen: dict[Section, str] = {}
        for list_name in ("workers", "modules"):
            if list_name in root.members:
                for entry in self._items(*root.members[list_name], list_name):
                    self._read_worker(entry, seen)

    def _read_worker(self, entry: Block, seen: dict[Section, str]) -> None:
        name = self._name_of(entry)
        section = STATE if name in STATE_NAMES else LISTENER if name == LISTENER else None
        if section is None:
            self._ignored.append(name)
            return
        if section in seen:
            one = "one state store" if section == STATE else "one listener"
            raise _wrong(
                entry.where,
                f"{name} repeats the entry at {seen[section]}; a server has {one}, "
                "keep one of the two",
            )
        seen[section] = entry.where
        for member, (_, where) in entry.members.items():
            if member not in ("name", "class", "image", "config"):
                raise _unknown(member, name, ("name", "image", "config"), where)
        if "config" not in entry.members:
            return
        block = self._block(entry.members["config"][0], f"the config of {name}")
        if section == STATE:
            self._read_state(block)
        else:
            self._read_settings(block, LISTENER, ("host", "port"))

    def _read_state(self, block: Block) -> None:
        if "adapter" in block.members:
            self._read_adapter(self._block(block.members["adapter"][0], "adapter"))
        if "save_interval_ms" in block.members:
            self._give_interval(*block.members["save_interval_ms"])
        ours = ("adapter", "triggers_enabled", "max_value_bytes", "save_interval_ms")
        self._read_settings(block, STATE, ours)

    def _read_adapter(self, adapter: Block) -> None:
        for member, (_, where) in adapter.members.items():
            if member not in ("name", "class", "config"):
                raise _unknown(member, adapter.what, ("name", "config"), where)
        name = self._name_of(adapter)
        if name.rpartition("::")[2] in _ADAPTERS_ELSEWHERE:
            raise _wrong(
                adapter.where,
                f"the adapter {name} is not in this version; "
                "use kv, which keeps the data on this machine",
            )
        if name not in KV_NAMES:
            raise _wrong(adapter.where, f"there is no adapter {name}; use kv")
        method_where = adapter.where
        if "config" in adapter.members:
            config = self._block(adapter.members["config"][0], "the config of the adapter")
            self._read_kv(config)
            if "store_method" in config.members:
                return
            method_where = config.where
        self._notices.append(
            f"{method_where}: no store_method: data is kept on disk; "
            "write store_method: in_memory to keep it in memory only"
        )

    def _read_kv(self, config: Block) -> None:
        known = ("store_method", "file_path", "save_interval_ms")
        for member, (node, where) in config.members.items():
            if member == "store_method":
                method = self._scalar(node)
                if method not in ("in_memory", "file_based"):
                    raise _wrong(
                        where, f"store_method is {method!r}; it must be file_based or in_memory"
                    )
                self._given["in_memory"] = Given(method == "in_memory", where)
            elif member == "file_path":
                self._give("data_dir", node, where)
            elif member == "save_interval_ms":
                self._give_interval(node, where)
            else:
                raise _unknown(member, config.what, known, where)

    def _read_settings(self, block: Block, section: Section, known: tuple[str, ...]) -> None:
        for member, (node, where) in block.members.items():
            row = BY_NAME.get(member)
            if row is None and section == LISTENER and member in _GUARDS_ELSEWHERE:
                raise _wrong(
                    where,
                    f"{member} is not in this version; what guards this server is a token, "
                    "given by token_file",
                )
            if row is None and member in known:
                continue
            if row is None:
                raise _unknown(member, block.what, known, where, section)
            if row.about.section != section:
                raise _wrong(where, f"{member} belongs in the config of {row.about.section}")
            if member in self._given:
                raise _wrong(where, f"{member} is already given at {self._given[member].where}")
            self._give(member, node, where)

    def _give(self, name: str, node: yaml.Node, where: str) -> None:
        if isinstance(node, yaml.SequenceNode):
            value: object = [self._scalar(item) for item in node.value]
        else:
            value = self._scalar(node)
        self._given[name] = Given(value, where)

    def _give_interval(self, node: yaml.Node, where: str) -> None:
        interval = self._scalar(node)
        if not isinstance(interval, int) or isinstance(interval, bool):
            raise _wrong(where, f"save_interval_ms is {interval!r}; it must be a whole number")
        nearest = min(max(interval, SAVE_INTERVAL_MS_MIN), SAVE_INTERVAL_MS_MAX)
        if nearest != interval:
            self._notices.append(f"{where}: save_interval_ms {interval} is taken as {nearest}")
        self._given["sync_interval_ms"] = Given(nearest, where)

    def _name_of(self, entry: Block) -> str:
        for member in ("name", "class"):
            if member in entry.members:
                node, where = entry.members[member]
                name = self._scalar(node)
                if not isinstance(name, str) or not name:
                    raise _wrong(where, f"{member} must be text")
                return name
        raise _wrong(entry.where, "this entry has no name")

    def _items(self, node: yaml.Node, where: str, name: str) -> Iterator[Block]:
        if isinstance(node, yaml.ScalarNode) and self._scalar(node) is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            raise _wrong(where, f"{name} must be a list")
        for item in node.value:
            yield self._block(item, f"an entry of {name}")

    def _block(self, node: yaml.Node, what: str) -> Block:
        where = self._place(node)
        if isinstance(node, yaml.ScalarNode) and self._scalar(node) is None:
            return Block(what, {}, where)
        if not isinstance(node, yaml.MappingNode):
            raise _wrong(where, f"{what} must have members, as in name: value")
        yaml.SafeLoader("").flatten_mapping(node)
        members: dict[str, tuple[yaml.Node, str]] = {}
        for key_node, value_node in node.value:
            key, place = str(self._scalar(key_node)), self._place(key_node)
            if key in members:
                raise _wrong(place, f"{key} is given twice")
            members[key] = (value_node, place)
        return Block(what, members, where)

    def _scalar(self, node: yaml.Node) -> object:
        if not isinstance(node, yaml.ScalarNode):
            raise _wrong(self._place(node), "this must be one value")
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise _wrong(self._place(node), "this value is not YAML") from error

    def _place(self, node: yaml.Node) -> str:
        return f"{self._file}:{node.start_mark.line + 1}"


def _wrong(where: str, sentence: str) -> ConfigurationError:
    file, _, line = where.rpartition(":")
    return ConfigurationError(f"{where}: {sentence}", file=file, line=int(line))


def _unknown(
    name: str, what: str, known: tuple[str, ...], where: str, section: Section | None = None
) -> ConfigurationError:
    names = [*known, *(row.name for row in SETTINGS if row.about.section == section)]
    near = suggestion(name, names) or f"; what belongs here: {', '.join(known)}"
    return _wrong(where, f"{name} is unknown in {what}{near}")
