"""Which value wins, and what is refused as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from iii_state.errors import ConfigurationError
from iii_state.resolution import Given, from_environment, is_loopback, resolve
from iii_state.settings import Settings


def test_nothing_given_means_the_defaults() -> None:
    resolved = resolve({}, {})

    assert resolved.settings == Settings()
    assert resolved.changed() == {}
    assert resolved.notices == ()


def test_the_stronger_layer_wins_and_its_origin_is_told() -> None:
    flags = {"port": Given("1", "flag --port")}
    environment = {"port": Given("2", "variable"), "cache_bytes": Given("1MiB", "variable")}
    file = {"port": Given(3, "f:1"), "cache_bytes": Given(2, "f:2"), "ops_max": Given(5, "f:3")}

    resolved = resolve(flags, environment, file)

    assert (resolved.settings.port, resolved.settings.cache_bytes) == (1, 1 << 20)
    assert resolved.changed() == {
        "port": ("1", "flag --port"),
        "cache_bytes": ("1MiB", "variable"),
        "ops_max": ("5", "f:3"),
    }


def test_a_wrong_value_is_refused_even_when_another_overrules_it() -> None:
    with pytest.raises(ConfigurationError, match="f:1: port"):
        resolve({"port": Given("1", "flag")}, {"port": Given("x", "f:1")})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_an_address_others_can_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({"host": Given(host or "0", "flag --host")})

    hint = caught.value.details["hint"]
    assert all(way in hint for way in ("--token-file", "127.0.0.1", "--insecure"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    assert resolve({"host": Given(host, "flag")}).settings.host == host


def test_a_token_or_insecure_opens_other_addresses() -> None:
    host = Given("0.0.0.0", "flag")

    assert resolve({"host": host, "token": Given("t", "v")}).settings.token == "t"
    assert resolve({"host": host, "insecure": Given(True, "flag")}).settings.insecure


def test_the_token_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("  s3cret \nsecond\n")

    resolved = resolve({"token_file": Given(str(file), "flag --token-file")})

    assert resolved.settings.token == "s3cret"
    assert resolved.changed()["token"] == ("***", "flag --token-file")


def test_a_token_file_in_a_flag_wins_over_a_token_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file")

    resolved = resolve(
        {"token_file": Given(str(file), "flag")}, {"token": Given("from-environment", "v")}
    )

    assert resolved.settings.token == "from-file"


def test_two_tokens_at_one_place_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="both give a token"):
        resolve({"token_file": Given("f", "variable A"), "token": Given("t", "variable B")})


@pytest.mark.parametrize("text", ["", "\n", "two words", "täst", "tab\tbed"])
def test_a_token_that_no_header_can_carry_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(text, "utf-8")

    with pytest.raises(ConfigurationError, match="is no token"):
        resolve({"token_file": Given(str(file), "flag")})


def test_a_token_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")

    for name in ("absent", "binary", "."):
        with pytest.raises(ConfigurationError, match="cannot read"):
            resolve({"token_file": Given(str(tmp_path / name), "flag")})


def test_zero_means_no_limit_of_values() -> None:
    assert resolve({"max_value_bytes": Given(0, "f:1")}).settings.max_value_bytes is None


def test_a_frame_cannot_be_larger_than_a_message() -> None:
    with pytest.raises(ConfigurationError, match="message_bytes_max"):
        resolve({"frame_bytes_max": Given("128MiB", "flag")})


def test_an_interval_without_its_durability_is_remarked() -> None:
    interval = {"sync_interval_ms": Given(500, "f:9")}

    assert "f:9" in resolve(interval).notices[0]
    assert resolve(interval | {"durability": Given("interval", "f")}).notices == ()


def test_the_environment_is_read_by_prefix() -> None:
    given, notices = from_environment(
        {"III_STATE_PORT": "80", "III_URL": "x", "III_STATE_CONFIG": "y", "III_STATE_OUTPUT": "raw"}
    )

    assert given == {"port": Given("80", "environment variable III_STATE_PORT")}
    assert notices == []


def test_a_variable_that_is_no_setting_is_remarked_with_the_nearest() -> None:
    given, notices = from_environment({"III_STATE_DURABLITY": "none"})

    assert given == {}
    assert "III_STATE_DURABLITY" in notices[0]
    assert "did you mean durability?" in notices[0]


def test_what_kubernetes_injects_for_a_service_is_passed_over() -> None:
    given, notices = from_environment({"III_STATE_PORT": "tcp://10.0.0.1:49134"})

    assert given == {}
    assert "passed over" in notices[0]
