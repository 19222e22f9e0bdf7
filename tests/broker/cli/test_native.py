"""`walrus-cli` against a native listener: what is printed, what is stored, and how it exits."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from broker.cli import native
from broker.cli.native_client import NativeClient, NativeError, NoAnswer
from tests.broker.native_api.harness import Node, running


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio") as portal:
        yield portal


@pytest.fixture
def node(portal: BlockingPortal) -> Iterator[Node]:
    with portal.wrap_async_context_manager(running()) as node:
        yield node


def run(node: Node, *args: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(native.main, ["--addr", f"127.0.0.1:{node.port}", *args], input=stdin)


def test_one_off_commands(node: Node) -> None:
    assert run(node, "register", "logs").stdout == "OK\n"
    assert run(node, "put", "logs", "hello world").stdout == "OK\n"
    got = run(node, "get", "logs")
    assert (got.stdout_bytes, got.exit_code) == (b"hello world", 0)
    empty = run(node, "get", "logs")
    assert (empty.stdout, empty.exit_code) == ("EMPTY\n", 0)
    assert json.loads(run(node, "state", "logs").stdout)["leader_node"] == 1
    assert json.loads(run(node, "metrics").stdout)["node"]["backend"] == "memory"


def test_payloads_from_standard_input_are_kept_byte_for_byte(node: Node) -> None:
    payload = bytes(range(256)) + b" \n"
    run(node, "register", "logs")
    assert run(node, "put", "logs", "-", stdin=payload).stdout == "OK\n"
    assert run(node, "get", "logs").stdout_bytes == payload


def test_a_payload_that_looks_like_an_option(node: Node) -> None:
    run(node, "register", "logs")
    assert run(node, "put", "logs", "--", "--payload").exit_code == 0
    assert run(node, "get", "logs").stdout == "--payload"


def test_an_err_is_exit_code_1_and_goes_to_stderr(node: Node) -> None:
    result = run(node, "get", "nowhere")
    assert result.exit_code == 1
    assert result.stderr == "ERR unknown topic nowhere\n"
    assert result.stdout == ""


def test_nobody_there_is_exit_code_1_with_one_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        result = CliRunner().invoke(native.main, ["--addr", address, "metrics"])
    assert result.exit_code == 1
    assert result.stderr == f"cannot connect to {address}: Connection refused\n"


def test_a_silent_node_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = CliRunner().invoke(
            native.main, ["--addr", address, "--timeout", "0.01", "metrics"]
        )
    assert result.exit_code == 1
    assert result.stderr == f"no answer from {address}: timed out\n"


@pytest.mark.parametrize(
    "args",
    [
        ["--addr", "nowhere", "metrics"],
        ["--addr", "host:99999", "metrics"],
        ["--timeout", "0", "metrics"],
        ["put", "logs"],
        ["put", "two words", "x"],
        ["register", ""],
        ["teleport"],
    ],
)
def test_a_command_line_that_cannot_be_meant_is_exit_code_2(args: list[str]) -> None:
    result = CliRunner().invoke(native.main, args)
    assert result.exit_code == 2


def test_the_address_comes_from_the_environment(node: Node) -> None:
    result = CliRunner(env={"WALRUS_ADDR": f"127.0.0.1:{node.port}"}).invoke(
        native.main, ["register", "logs"]
    )
    assert result.stdout == "OK\n"


def test_lines_of_a_pipe_are_commands_and_the_first_err_ends_them(node: Node) -> None:
    lines = b"register logs\n\nput logs  two  spaces \nGET logs\nGET logs\nhelp\nquit\nGET never\n"
    result = run(node, stdin=lines)
    assert result.exit_code == 0
    assert result.stdout == f"OK\nOK\n two  spaces \nEMPTY\n{native.HELP}"
    failed = run(node, stdin=b"GET nowhere\nregister never\n")
    assert (failed.exit_code, failed.stderr) == (1, "ERR unknown topic nowhere\n")


class Typist:
    """Someone at the prompt."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        self._lines = list(lines)

    def __call__(self) -> str:
        if not self._lines:
            raise EOFError
        line = self._lines.pop(0)
        if isinstance(line, str):
            return line
        raise line


def converse(node: Node, *lines: str | type[BaseException]) -> None:
    settings = native._Settings("127.0.0.1", node.port, 20.0)
    native._converse(settings, Typist(*lines))


def test_the_prompt_survives_errors_and_interrupts(
    node: Node, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    converse(
        node,
        "GET nowhere",
        KeyboardInterrupt,
        "",
        "REGISTER logs",
        'put logs "quoted" ',
        "get logs",
        "help",
        "quit ",
        "GET never",
    )
    out = capfdbinary.readouterr().out
    assert b"ERR unknown topic nowhere" in out
    assert b'\nOK\nOK\n"quoted" \n' in out
    assert out.endswith(native.HELP.encode())


def test_the_prompt_connects_anew_after_the_node_went_away(
    node: Node, portal: BlockingPortal, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    class Restarting(Typist):
        def __call__(self) -> str:
            line = super().__call__()
            if line == "GET logs":
                portal.call(node.hang_up)
            return line

    settings = native._Settings("127.0.0.1", node.port, 20.0)
    with capture_logs():
        native._converse(settings, Restarting("REGISTER logs", "PUT logs x", "GET logs"))
    assert capfdbinary.readouterr().out.endswith(b"OK\nOK\nx\n")


def test_history_is_kept_in_the_xdg_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert native.history_path() == tmp_path / "walrus" / "cli_history"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert native.history_path() == tmp_path / ".local" / "state" / "walrus" / "cli_history"


def test_help_imports_nothing_heavy() -> None:
    heavy = ("structlog", "rich", "kio", "prompt_toolkit", "anyio", "msgspec", "asyncio")
    program = (
        f"import sys, broker.cli.native\nprint([name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_the_program_itself_answers(node: Node) -> None:
    environment = {**os.environ, "WALRUS_ADDR": f"127.0.0.1:{node.port}"}
    command = [sys.executable, "-m", "broker.cli.native"]
    registered = subprocess.run(
        [*command, "register", "logs"], env=environment, capture_output=True, check=False
    )
    assert (registered.stdout, registered.returncode) == (b"OK\n", 0)
    refused = subprocess.run(
        [*command, "get", "nowhere"], env=environment, capture_output=True, check=False
    )
    assert (refused.stderr, refused.returncode) == (b"ERR unknown topic nowhere\n", 1)


def test_the_client_class_tells_refusal_from_silence(node: Node) -> None:
    with NativeClient("127.0.0.1", node.port) as client:
        client.register("logs")
        client.put("logs", b"ERR \xff")
        assert client.get("logs") == b"ERR \xff"
        assert client.get("logs") is None
        with pytest.raises(NativeError, match="^unknown topic nowhere$"):
            client.get("nowhere")
        client.put("logs", b"")
        assert client.get("logs") == b""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stranger = NativeClient("127.0.0.1", listener.getsockname()[1])
        peer, _ = listener.accept()
        with peer, stranger, pytest.raises(NoAnswer, match="does not speak"):
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            stranger.metrics()
