"""The documentation is true: its examples are run, and what must be in it is."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import msgspec
import pytest
from engine_bench import RecordingPeer, running_engine
from programs import COMMAND, environment

import iii_state
from iii_state import errors
from iii_state.core import deliveries, delivery, document, operations
from iii_state.core.bindings import CONFIG_MEMBERS, BindingConfig, Retry
from iii_state.core.changes import Change, Entry, EventType, Origin
from iii_state.core.events import event_payload
from iii_state.core.store import StoreInfo
from iii_state.engine.feed_functions import ChangesRequest
from iii_state.engine.followers import BindingStatus
from iii_state.engine.state import SetRequest
from iii_state.settings import BY_NAME
from iii_state.wire import messages

Json = Any

DOCS = Path(__file__).parents[2] / "docs"
SOURCES = Path(iii_state.__file__).parent
PAGES = ("protocol.md", "functions.md", "triggers.md", "embedded.md", "operations.md")

NOT_SETTINGS = {"timestamp_ms", "disk_bytes", *BindingConfig.__struct_fields__}
NOT_SETTINGS |= {*Retry.__struct_fields__, *SetRequest.__struct_fields__}
NOT_SETTINGS |= {*ChangesRequest.__struct_fields__}
"""Members of messages and configs that are called like settings."""


def read(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


def blocks(page: str, mark: str, language: str) -> list[str]:
    """The code blocks of a language that stand behind a mark."""
    pattern = rf"<!-- {mark} -->\n```{language}\n(.*?)```"
    found = re.findall(pattern, read(page), re.DOTALL)
    assert found, f"{page} has no block behind {mark!r}"
    return found


def source_of(module: ModuleType) -> str:
    assert module.__file__ is not None
    return Path(module.__file__).read_text("utf-8")


def code_words(page: str) -> set[str]:
    """What stands in backticks, with `{a,b}` written out."""
    words = set()
    for word in re.findall(r"`([^`\n]+)`", read(page)):
        start, brace, rest = word.partition("{")
        choices, _, end = rest.partition("}")
        words |= {start + choice + end for choice in choices.split(",")} if brace else {word}
    return words


class TextPeer(RecordingPeer):
    """A connection that keeps the texts of the messages as well."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[bytes] = []

    def send(self, text: bytes) -> None:
        super().send(text)
        self.texts.append(text)


# -- examples that are run ------------------------------------------------------------------------


async def test_the_session_in_protocol_md_is_what_the_engine_says() -> None:
    [session] = blocks("protocol.md", "replayed", "text")
    lines = session.replace("\n   ", "").splitlines()
    actual: dict[str, str] = {}
    async with running_engine() as bench:
        peer = RecordingPeer()
        worker = bench.engine.connect(peer, "127.0.0.1")
        for line in lines:
            text = line[2:]
            if line.startswith("W "):
                bench.engine.receive(worker, with_actual(text, actual))
                await bench.turn()
                continue
            message = peer.sent.pop(0)
            learn_actual(json.loads(text), message, actual)
            assert json.loads(with_actual(text, actual)) == message

    assert peer.sent == []


def learn_actual(
    written: dict[str, Json], message: dict[str, Json], actual: dict[str, str]
) -> None:
    """Note what stands for the ids and times in the written message."""
    if message["type"] == "workerregistered":
        for name in ("worker_id", "reattach_token"):
            actual[written[name]] = message[name]
    if message["type"] == "invokefunction":
        actual[written["invocation_id"]] = message["invocation_id"]
        actual[written["traceparent"]] = message["traceparent"]
        actual[str(written["data"]["timestamp_ms"])] = str(message["data"]["timestamp_ms"])


def with_actual(text: str, actual: dict[str, str]) -> str:
    for written, found in actual.items():
        text = text.replace(written, found)
    return text


@pytest.mark.parametrize(
    ("page", "mark"), [("functions.md", "replayed"), ("protocol.md", "replayed: calls")]
)
async def test_calls_answer_what_is_written_there(page: str, mark: str) -> None:
    written = "".join(blocks(page, mark, "text")).replace("\n    ", "").splitlines()
    said = []
    async with running_engine() as bench:
        peer = TextPeer()
        worker = bench.engine.connect(peer, "127.0.0.1")
        for line in written:
            if line.startswith("< "):
                continue
            said.append(line)
            bench.engine.receive(worker, line[2:] if line.startswith("W ") else call(line[2:]))
            await bench.turn()
            if line.startswith("> "):
                said.append(answer_line(peer.texts[-1]))

    assert [without_version(line) for line in written] == [without_version(line) for line in said]


def call(line: str) -> str:
    """The message for a function and its data."""
    function_id, _, data = line.partition(" ")
    members = f'"invocation_id":"1","function_id":"{function_id}","data":{data}'
    return f'{{"type":"invokefunction",{members}}}'


def answer_line(message: bytes) -> str:
    answer = msgspec.json.decode(message, type=dict[str, msgspec.Raw])
    if "error" in answer:
        error = msgspec.json.decode(answer["error"], type=dict[str, object])
        return f"< error {error['code']}: {error['message']}"
    return f"< {bytes(answer['result']).decode()}" if "result" in answer else "< no result"


def without_version(line: str) -> str:
    return re.sub(r'"version":"[^"]+"', '"version":"..."', line)


EMBEDDED = re.findall(
    r"<!-- run -->\n```python\n(.*?)```\n\n```text\n(.*?)```", read("embedded.md"), re.DOTALL
)


@pytest.mark.parametrize(("program", "output"), EMBEDDED, ids=range(len(EMBEDDED)))
def test_the_programs_in_embedded_md_print_what_is_written_there(
    program: str,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(program, "utf-8")

    runpy.run_path("program.py")

    assert capsys.readouterr().out == output


def test_all_programs_in_embedded_md_are_run() -> None:
    assert len(EMBEDDED) == read("embedded.md").count("```python")


def test_the_recipe_in_operations_md_restores_a_dump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [recipe] = blocks("operations.md", "run: restore", "python")
    monkeypatch.chdir(tmp_path)
    with iii_state.open_sync("data") as state:
        for key, value in (("z", 1), ("", None), ("a", {"x": [1.5]})):
            state.set("s", key, value)
        state.set("s", "z", 2)
    dumped = subprocess.run(
        [COMMAND, "dump", "data"], env=environment(), capture_output=True, check=True
    )
    Path("backup.ndjson").write_bytes(dumped.stdout)
    Path("recipe.py").write_text(recipe, "utf-8")

    runpy.run_path("recipe.py")

    with iii_state.open_sync("restored") as state:
        assert state.list("s") == [2, None, {"x": [1.5]}]
        assert state.list_keys("s") == ["", "a", "z"]
        assert state.info().durability == "commit"


def test_the_python_worker_in_triggers_md_compiles() -> None:
    [worker] = blocks("triggers.md", "compiles", "python")

    compile(worker, "worker.py", "exec")


# -- what must be in it ---------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["functions.md", "triggers.md"])
def test_the_generated_parts_are_up_to_date(page: str) -> None:
    generated = runpy.run_path(str(DOCS / "generate.py"))["generated"]

    assert generated(read(page)) == read(page), "run: make docs"


async def test_every_message_type_has_its_row() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", read("protocol.md"), re.MULTILINE))
    sent = re.findall(r'"type":\s?"(\w+)"', source_of(messages))
    async with running_engine() as bench:
        taken = {*bench.engine._handlers, *bench.engine._registration_handlers}

    assert len(sent) > 5
    assert taken | set(sent) <= rows


async def test_every_built_in_function_and_trigger_type_is_listed() -> None:
    async with running_engine() as bench:
        functions = set(bench.engine.functions.builtins)
        types = {trigger_type.id for trigger_type in bench.engine.triggers.types()}
    of_state = {name for name in functions if name.startswith("state::")}

    assert of_state <= code_words("functions.md")
    assert (functions - of_state) | types <= code_words("protocol.md")


def test_every_error_code_has_its_row() -> None:
    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.StateError)
    }
    rows = set(re.findall(r"^\| `(\w+)` \|", read("operations.md"), re.MULTILINE))

    assert codes <= rows


def test_every_code_that_a_call_can_fail_with_is_explained() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", read("protocol.md"), re.MULTILINE))
    raised = set()
    for room in ("engine", "core", "stores"):
        for path in (SOURCES / room).rglob("*.py"):
            source = path.read_text("utf-8")
            raised |= set(re.findall(r'(?:\bcode="|Failure\(\s*"|"code": ")(\w+)"', source))

    assert len(raised) > 8
    assert raised - {"invocation_failed"} <= rows


def test_every_reason_of_an_operation_to_fail_is_explained() -> None:
    reasons = {
        reason
        for module in (operations, document)
        for reason in re.findall(r'Refusal\(\s*"([\w.]+)"', source_of(module))
    }

    assert len(reasons) == 11
    assert {f".{reason}" for reason in reasons} <= code_words("functions.md")


def test_every_member_of_events_configs_and_statuses_is_explained() -> None:
    change = Change(1, "s", "k", None, Entry(b"1", 1, 1, 0, 0), 0, Origin("w"))
    event = json.loads(event_payload(change, 1, values_omitted=True))
    status = {*BindingStatus.__struct_fields__} - {"binding", "owner", "members"}
    counters = {*delivery.Counters.__struct_fields__}
    config = {*CONFIG_MEMBERS}

    assert {*event} | status | counters | config | {*get_args(EventType)} <= code_words(
        "triggers.md"
    )
    assert {*StoreInfo.__struct_fields__} <= code_words("functions.md")


def test_the_bounds_of_bindings_are_those_in_force() -> None:
    limits = deliveries.Limits()

    assert f"| {limits.in_flight_max} |\n" in read("triggers.md")
    assert f"| {limits.read_ahead_max:,}, or {limits.read_ahead_bytes_max >> 20} MiB" in read(
        "triggers.md"
    )
    assert f"| {limits.interruptions_max} |\n" in read("triggers.md")


def test_log_lines_that_are_explained_exist() -> None:
    table = read("operations.md").split("| line | meaning |")[1].split("\n\n")[0]
    lines = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    source = "".join(path.read_text("utf-8") for path in SOURCES.rglob("*.py"))
    joined = re.sub(r'"\n\s+f?"', "", source)
    parts = [part.strip() for line in lines for part in line.split("...")]

    assert len(lines) > 8
    assert [part for part in parts if part not in joined] == []


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_are_named_exist(page: str) -> None:
    unit = re.compile(r"[a-z]+(_[a-z]+)*_(max|bytes|ms|us|s|dir|file)")
    named = {word for word in code_words(page) if unit.fullmatch(word)}

    assert named - NOT_SETTINGS <= {*BY_NAME}


@pytest.mark.parametrize(
    "page",
    [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"],
    ids=lambda path: path.name,
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text("utf-8")), target


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_short(page: str) -> None:
    assert [line for line in read(page).splitlines() if len(line) > 140] == []
