from __future__ import annotations

import re
from pathlib import Path

import pytest

from iii_state.core.bindings import CONFIG_MEMBERS, BindingConfig, BindingIndex
from iii_state.core.changes import Change, Entry

PAGE = (Path(__file__).parents[2] / "docs/triggers.md").read_text("utf-8")
SELECTIONS = re.findall(
    r"^\| `(\{.*\})` \| `(.*)` \| `(.*)` \|$",
    PAGE.split("<!-- selections")[1].split("\n\n")[0],
    re.MULTILINE,
)
CONFIGS = [
    line
    for block in re.findall(r"<!-- configs -->\n```json\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def change_of(text: str) -> Change:
    """The change that is written as `scope/key: before -> after`."""
    found = re.fullmatch(r"(\w+)/(\S+): (.+) -> (.+)", text)
    assert found is not None
    scope, key, before, after = found.groups()
    replaced = None if before == "absent" else Entry(before.encode(), 1, 1, 0, 0)
    entry = None if after in ("absent", "expired") else Entry(after.encode(), 2, 1, 0, 0)
    return Change(2, scope, key, replaced, entry, 0, cause="expired" if after == "expired" else "")


@pytest.mark.parametrize(("config", "heard", "unheard"), SELECTIONS)
def test_the_selections_in_triggers_md_are_what_happens(
    config: str, heard: str, unheard: str
) -> None:
    index: BindingIndex[str] = BindingIndex()
    index.add(0, BindingConfig.parse(config.encode()), "it")
    assert index.match(change_of(heard)) == ["it"]
    assert index.match(change_of(unheard)) == []


@pytest.mark.parametrize("config", CONFIGS)
def test_the_configs_in_triggers_md_are_understood(config: str) -> None:
    assert BindingConfig.parse(config.encode()).unknown == ()


def test_every_member_of_a_config_has_a_row_and_all_but_the_condition_an_example() -> None:
    table = PAGE.split("| member | what it is | default |")[1].split("\n\n")[0]
    examples = "".join([*CONFIGS, *(selection[0] for selection in SELECTIONS)])
    for member in CONFIG_MEMBERS:
        assert f"`{member}`" in table
        assert f'"{member}": ' in examples or member == "condition_function_id"
