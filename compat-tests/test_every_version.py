"""Every listed version of every API, asked and understood by a library that is not the broker's.

The broker reads and writes with kio; the program of this test with franz-go's kmsg. Whatever one of
them gets wrong, the other does not understand.
"""

import json
import subprocess

import pytest

from broker.kafka_api.apis import SERVED
from harness.programs import FOREIGN
from harness.server import Server

pytestmark = [pytest.mark.go]


def test_version_that_is_listed_and_not_understood(server: Server) -> None:
    program = [str(FOREIGN / "go" / "everyversion"), server.kafka]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    said = [json.loads(line) for line in ended.stdout.splitlines()]
    wrong = {f"{one['key']} v{one['version']}": one["error"] for one in said if "error" in one}
    assert not wrong
    assert [(one["key"], one["version"]) for one in said] == list(SERVED)
