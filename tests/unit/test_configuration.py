"""The original's config.yaml, read as settings."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from iii_state.configuration import Configuration, expand, parse_configuration, read_configuration
from iii_state.errors import ConfigurationError
from iii_state.resolution import resolve
from iii_state.settings import Settings


def read(text: str, **environ: str) -> Configuration:
    return parse_configuration(dedent(text), "config.yaml", environ, "9.9")


def settings(text: str, **environ: str) -> Settings:
    return resolve(read(text, **environ).given).settings


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        resolve(read(text).given)
    return caught.value.message


ORIGINAL = """\
    workers:
      - name: iii-worker-manager
        config:
          host: 127.0.0.1
          port: ${III_PORT:49200}
      - name: iii-http
        config: {port: 3111, cors: {allowed_origins: ["*"]}}
      - name: iii-state
        config:
          adapter:
            name: kv
            config:
              store_method: file_based
              file_path: ./data/state_store.db
              save_interval_ms: 5000
          triggers_enabled: false
          max_value_bytes: 1048576
      - name: iii-queue
    """


def test_a_file_of_the_originals_is_understood() -> None:
    configuration = read(ORIGINAL)
    result = resolve(configuration.given).settings

    assert (result.host, result.port) == ("127.0.0.1", 49200)
    assert result.data_dir == Path("data/state_store.db")
    assert (result.in_memory, result.triggers_enabled) == (False, False)
    assert (result.max_value_bytes, result.sync_interval_ms) == (1048576, 5000)
    assert configuration.ignored == ("iii-http", "iii-queue")


def test_every_value_knows_its_line() -> None:
    given = read(ORIGINAL).given

    assert given["port"].where == "config.yaml:5"
    assert given["max_value_bytes"].where == "config.yaml:17"


def test_the_older_form_with_modules_is_understood() -> None:
    result = settings(
        """\
        port: 49234
        modules:
          - class: modules::api::RestApiModule
            config: {port: 3111}
          - class: modules::state::StateModule
            config:
              adapter:
                class: modules::state::adapters::KvStore
                config: {store_method: in_memory}
        """
    )

    assert (result.port, result.in_memory) == (49234, True)


@pytest.mark.parametrize("text", ["", "# nothing", "workers: []", "workers:", "modules:"])
def test_a_file_that_says_nothing_changes_nothing(text: str) -> None:
    assert settings(text) == Settings()


def test_state_without_a_config_has_the_defaults() -> None:
    assert settings("workers: [{name: state}, {name: iii-worker-manager, config: }]") == Settings()


def test_data_is_on_disk_unless_memory_is_asked_for_by_name() -> None:
    text = "workers: [{name: state, config: {adapter: {name: kv}}}]"
    configuration = read(text)

    assert settings(text).in_memory is False
    assert "no store_method" in configuration.notices[0]


def test_our_own_settings_stand_beside_the_originals() -> None:
    result = settings(
        """\
        registration_namespace_grace_ms: 250
        workers:
          - name: iii-worker-manager
            config: {connections_max: 7, allowed_origins: [https://a.example]}
          - name: state
            config: {durability: interval, sync_interval_ms: 20, cache_bytes: 1MiB, data_dir: d}
        """
    )

    assert (result.connections_max, result.allowed_origins) == (7, ("https://a.example",))
    assert (result.durability, result.sync_interval_ms, result.cache_bytes) == (
        "interval",
        20,
        1 << 20,
    )
    assert (result.data_dir, result.namespace_grace_ms) == (Path("d"), 250)


def test_the_outer_save_interval_wins_over_the_adapters() -> None:
    result = settings(
        """\
        workers:
          - name: state
            config:
              save_interval_ms: 200
              adapter: {name: kv, config: {save_interval_ms: 300}}
        """
    )

    assert result.sync_interval_ms == 200


def test_a_save_interval_out_of_bounds_is_moved_into_them_and_remarked() -> None:
    configuration = read("workers: [{name: state, config: {save_interval_ms: 5}}]")

    assert configuration.given["sync_interval_ms"].value == 100
    assert "config.yaml:1: save_interval_ms 5 is taken as 100" in configuration.notices


def test_anchors_and_merge_keys_work() -> None:
    result = settings(
        """\
        workers:
          - name: iii-worker-manager
            config: &listener {host: localhost, port: 1}
          - name: other
            config: {<<: *listener}
        """
    )

    assert (result.host, result.port) == ("localhost", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrokers: []", "config.yaml:1: wrokers is unknown in the root of the file; did you mean"),
        ("port: 1", "config.yaml:1: port is unknown in the root"),
        ("workers: 5", "config.yaml:1: workers must be a list"),
        ("workers: [5]", "an entry of workers must have members"),
        ("- a", "config.yaml:1: the file must have members"),
        ("workers: [{config: {}}]", "this entry has no name"),
        ("workers: [{name: [a]}]", "config.yaml:1: this must be one value"),
        ("workers: [{name: 5}]", "name must be text"),
        ("workers: [{name: state, confg: {}}]", "confg is unknown in state; did you mean config?"),
        ("workers: [{name: state, config: {durablity: a}}]", "did you mean durability?"),
        ("workers: [{name: state, config: {xyzzy: a}}]", "what belongs here: adapter"),
        ("workers: [{name: state, config: {port: 1}}]", "port belongs in the config of iii-wor"),
        (
            "workers: [{name: iii-worker-manager, config: {data_dir: x}}]",
            "data_dir belongs in the config of iii-state",
        ),
        (
            "workers: [{name: iii-worker-manager, config: {rbac: {}}}]",
            "rbac is not in this version",
        ),
        ("workers: [{name: iii-worker-manager, config: {adapter: 1}}]", "adapter is unknown"),
        ("workers: [{name: state, config: {adapter: {name: redis}}}]", "redis is not in this vers"),
        (
            "workers: [{name: state, config: {adapter: {class: 'a::adapters::RedisAdapter'}}}]",
            "RedisAdapter is not in this version",
        ),
        ("workers: [{name: state, config: {adapter: {name: abc}}}]", "there is no adapter abc"),
        ("workers: [{name: state, config: {adapter: {nam: kv}}}]", "nam is unknown in adapter"),
        (
            "workers: [{name: state, config: {adapter: {name: kv, config: {path: x}}}}]",
            "path is unknown in the config of the adapter",
        ),
        (
            "workers: [{name: state, config: {adapter: {name: kv, config: {store_method: x}}}}]",
            "store_method is 'x'; it must be file_based or in_memory",
        ),
        ("workers: [{name: state, config: {save_interval_ms: often}}]", "must be a whole number"),
        ("workers: [{name: state, config: {triggers_enabled: 7}}]", "it must be true or false"),
        ("workers: [{name: state, config: {cache_bytes: {a: 1}}}]", "this must be one value"),
        ("workers: [{name: state, name: b}]", "name is given twice"),
        ("a: [", "config.yaml:1: this is not YAML"),
        ("a: 1\nb: &x [*y]", "config.yaml:2: this is not YAML"),
        ("workers: [{name: !!int x}]", "this value is not YAML"),
        ("workers: " + "[" * 3000, "nested too deeply"),
    ],
)
def test_what_is_not_understood_is_refused_with_file_and_line(text: str, message: str) -> None:
    assert message in refusal(text)


def test_state_listed_under_both_names_is_refused() -> None:
    message = refusal("workers:\n - name: state\n - name: iii-state\n")

    assert message.startswith("config.yaml:3: iii-state repeats the entry at config.yaml:2")


def test_a_path_given_twice_under_two_names_is_refused() -> None:
    message = refusal(
        """\
        workers:
          - name: state
            config:
              adapter: {name: kv, config: {store_method: file_based, file_path: a}}
              data_dir: b
        """
    )

    assert message == "config.yaml:5: data_dir is already given at config.yaml:4"


@pytest.mark.parametrize(
    ("text", "environ", "expanded"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A:}", {}, ""),
        ("${A:b:c}", {}, "b:c"),
        ("${A:-x}", {}, "-x"),
        ("${A:x}", {"A": ""}, ""),
        ("${A:x}${B:y}", {"B": "z"}, "xz"),
        ("${A:${B}}", {}, "${B}"),
        ("$A ${} $${A:x}", {}, "$A ${} $x"),
        ("${V:__III_ENGINE_VERSION__}", {}, "9.9"),
    ],
)
def test_placeholders_are_replaced(text: str, environ: dict[str, str], expanded: str) -> None:
    assert expand(text, "f", environ, "9.9") == expanded


def test_a_variable_that_is_not_set_is_named_with_file_and_line() -> None:
    with pytest.raises(ConfigurationError) as caught:
        expand("a: 1\nb: ${MY_TOKEN}\n", "config.yaml", {}, "9.9")

    assert caught.value.message.startswith("config.yaml:2: the environment variable MY_TOKEN")
    assert caught.value.details == {"file": "config.yaml", "line": 2}


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xe4")

    for name, reason in [("absent", "No such file"), ("latin", "UTF-8"), (".", "directory")]:
        with pytest.raises(ConfigurationError, match=reason):
            read_configuration(tmp_path / name, {}, "9.9")


def test_a_file_on_disk_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("workers: [{name: state, config: {ops_max: 3}}]")

    given = read_configuration(file, {}, "9.9").given

    assert given["ops_max"].value == 3
    assert given["ops_max"].where == f"{file}:1"
