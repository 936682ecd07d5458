"""`serve`: what it refuses, what it tells, how it stops."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from programs import COMMAND, environment, program, server
from websockets.sync.client import connect

from iii_state import __version__
from iii_state.cli import cli
from iii_state.cli.serve import read_settings
from iii_state.errors import ConfigurationError
from iii_state.settings import SETTINGS


def ask(url: str, *args: str, **env: str) -> Result:
    return CliRunner().invoke(cli, args, env={"III_URL": url, "III_STATE_TOKEN": None, **env})


def refusal(*args: str, **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [COMMAND, "serve", *args],
        env=environment(**env),
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_the_start_tells_what_is_in_force(tmp_path: Path) -> None:
    data = tmp_path / "data"
    flags = ("--port", "0", "--data-dir", str(data), "--log-format", "json")

    with program("serve", *flags, env=environment(III_STATE_OPS_MAX="9")) as running:
        start = json.loads(running.error_line("iii-state starts"))
        running.error_line('"setting ops_max = 9"')
        listening = json.loads(running.error_line("listening"))
        code = running.stop()

    assert code == 0
    assert start["version"] == __version__
    assert start["data"] == str(data)
    assert (start["durability"], start["revision"], start["level"]) == ("commit", 0, "info")
    assert listening["address"].startswith("ws://127.0.0.1:")


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    data = str(tmp_path / "data")

    with server("--data-dir", data) as (first, address):
        assert ask(address, "set", "s", "k", '{"kept": true}').exit_code == 0
        assert first.stop() == 0
    with program("serve", "--port", "0", "--data-dir", data, "--log-format", "json") as second:
        assert json.loads(second.error_line("starts"))["revision"] == 1
        address = json.loads(second.error_line("listening"))["address"]

        assert ask(address, "get", "s", "k").stdout == '{"kept": true}\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_signals_stop_in_order(number: signal.Signals) -> None:
    with server("--in-memory") as (running, _):
        running.process.send_signal(number)

        assert number.name in running.error_line("stopping")
        running.error_line("stopped")
        assert running.finish() == 0


def test_memory_is_announced() -> None:
    with program("serve", "--in-memory", "--port", "0") as running:
        assert "all data is gone when the server stops" in running.error_line("warning")


@pytest.mark.parametrize("mode", ["interval", "none"])
def test_a_weaker_durability_is_announced(mode: str, tmp_path: Path) -> None:
    flags = ("--durability", mode, "--data-dir", str(tmp_path / "d"), "--port", "0")

    with program("serve", *flags) as running:
        assert "a power cut can lose" in running.error_line("warning")


def test_readable_lines_are_the_default() -> None:
    with program("serve", "--in-memory", "--port", "0") as running:
        line = running.error_line("listening")

    assert "[info" in line
    assert "address=ws://127.0.0.1:" in line
    assert "\x1b" not in line


def test_a_client_that_misbehaves_does_not_fill_the_log() -> None:
    with server("--in-memory", env=environment(III_STATE_LOG_LINES_MAX="5")) as (running, address):
        with connect(address) as socket:
            for _ in range(300):
                socket.send('{"type":"nonsense"}')
            socket.send('{"type":"ping"}')
            while json.loads(socket.recv())["type"] != "pong":
                pass
        running.process.terminate()
        written = running.errors.read()
        running.finish()

    assert written.count("a message of unknown type") == 5
    assert '"message": "stopped"' in written


def test_an_address_others_can_reach_is_refused_without_a_token() -> None:
    code, text = refusal("--host", "0.0.0.0")

    assert code == 2
    assert text.startswith("error: flag --host: listening on 0.0.0.0")
    assert "code: CONFIGURATION_ERROR\nhint: give a token" in text


def test_a_token_guards_the_server(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")

    with server("--in-memory", "--token-file", str(file)) as (_, address):
        assert ask(address, "scopes").exit_code == 6
        assert ask(address, "scopes", III_STATE_TOKEN="wrong").exit_code == 6
        assert ask(address, "scopes", III_STATE_TOKEN="s3cret").exit_code == 0
        assert ask(address, "scopes", III_TOKEN="s3cret").exit_code == 0
        assert ask(address, "scopes", "--token-file", str(file)).exit_code == 0


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, text = refusal("--in-memory", "--port", str(taken.getsockname()[1]))

    assert code == 1
    assert "Address already in use" in text
    assert "code: CANNOT_LISTEN" in text


def test_a_host_that_is_none_is_told() -> None:
    code, text = refusal("--in-memory", "--insecure", "--host", "no.such.host.invalid")

    assert code == 1
    assert "cannot listen on no.such.host.invalid" in text


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    data = str(tmp_path / "data")

    with server("--data-dir", data) as (first, _):
        code, text = refusal("--port", "0", "--data-dir", data)

        assert code == 4
        assert "code: STORE_LOCKED" in text
        assert str(first.process.pid) in text


def test_a_directory_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    code, text = refusal("--port", "0", "--data-dir", str(tmp_path / "file"))

    assert code == 1
    assert "code: STORE_NOT_WRITABLE" in text


def test_an_unknown_flag_is_refused() -> None:
    code, text = refusal("--prot", "1")

    assert code == 2
    assert "--port" in text


def test_an_original_file_starts_the_server(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"""\
workers:
  - name: iii-worker-manager
    config: {{host: 127.0.0.1, port: "${{MY_PORT:0}}"}}
  - name: iii-http
    config: {{port: 3111}}
  - name: iii-state
    config:
      adapter:
        name: kv
        config: {{store_method: file_based, file_path: {tmp_path}/state_store.db}}
"""
    )

    with program("serve", "-c", str(file), "--log-format", "json") as running:
        running.error_line("not ours: iii-http")
        address = json.loads(running.error_line("listening"))["address"]
        assert ask(address, "set", "s", "k", "1").exit_code == 0
        assert running.stop() == 0

    assert (tmp_path / "state_store.db").is_dir()


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "workers: [{name: state, config: {ops_max: 1, nesting_max: 10, durability: none}}]"
    )
    environ = {"III_STATE_NESTING_MAX": "20", "III_STATE_DURABILITY": "interval"}

    resolved, _ = read_settings(file, {"durability": "commit", "port": None}, environ)

    settings = resolved.settings
    assert (settings.ops_max, settings.nesting_max, settings.durability) == (1, 20, "commit")
    assert resolved.origins == {
        "durability": "flag --durability",
        "nesting_max": "environment variable III_STATE_NESTING_MAX",
        "ops_max": f"{file}:1",
    }


def test_a_wrong_flag_is_named() -> None:
    with pytest.raises(ConfigurationError, match="flag --cache-bytes: cache_bytes is '1 elephant'"):
        read_settings(None, {"cache_bytes": "1 elephant"}, {})


def test_every_setting_with_a_flag_has_it() -> None:
    result = CliRunner().invoke(cli, ["serve", "--help"])

    words = result.stdout.split()
    assert all((row.flag in words) == bool(row.flag) for row in SETTINGS if row.flag)
    assert "--token" not in words


def test_the_limits_of_the_file_reach_the_engine(tmp_path: Path) -> None:
    with server("--in-memory", env=environment(III_STATE_MAX_VALUE_BYTES="4")) as (_, address):
        result: Any = ask(address, "set", "s", "k", '"12345"')

    assert result.exit_code == 2
    assert "code: VALUE_TOO_LARGE" in result.stderr
