"""What a new user types first: the README's own lines, in their order, on one server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.server import WALRUS_CLI, Server
from tests.node_process import clean_environment

pytestmark = [pytest.mark.kcat, pytest.mark.aiokafka]

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    """The one piece of code up to the chapter about clusters that has this in it."""
    alone = README.split("## Three nodes")[0]
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", alone, re.DOTALL)
    (found,) = [each for each in blocks if containing in each]
    return found


def run(*command: str) -> bytes:
    result = subprocess.run(
        command, capture_output=True, timeout=60, env=clean_environment(), check=False
    )
    assert result.returncode == 0, (command, result.stdout, result.stderr)
    return result.stdout


def shell(server: Server, lines: str) -> bytes:
    lines = lines.replace(".venv/bin/walrus-cli", f"{WALRUS_CLI} --addr {server.native}")
    return run("sh", "-euc", lines.replace("127.0.0.1:9092", server.kafka))


def test_first_page_that_does_not_work(server: Server) -> None:
    assert b"hello world" in shell(server, block("sh", "walrus-cli put"))
    assert shell(server, block("sh", "kcat")).split(b"\n")[-2:] == [b"hello kafka", b""]
    program = block("python", "aiokafka").replace("127.0.0.1:9092", server.kafka)
    assert run(sys.executable, "-c", program).splitlines() == [
        b"written at offset 2",
        b"b'hello world'",
    ]
    again = [shell(server, ".venv/bin/walrus-cli get hello") for _ in range(2)]
    assert b"hello kafka" in again[0]
    assert b"hello aiokafka" in again[1]
