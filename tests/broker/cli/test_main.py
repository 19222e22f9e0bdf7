"""A command line that is slow to answer, or that fails with a traceback."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from broker.cli.main import COMMANDS, walrus


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(walrus, ["--help"])
    assert result.exit_code == 0
    for name, (_, line) in COMMANDS.items():
        assert name in result.output
        assert line in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(walrus, [name, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(walrus, ["sevre"])
    assert result.exit_code == 2
    assert "sevre" in result.output


def test_version_is_the_distributions() -> None:
    result = CliRunner().invoke(walrus, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("walrus ")


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from broker.cli.main import walrus\n"
        "walrus(['--help'], standalone_mode=False)\n"
        "heavy = {'structlog', 'rich', 'kio', 'anyio', 'msgspec', 'starlette'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "serve" in done.stdout
