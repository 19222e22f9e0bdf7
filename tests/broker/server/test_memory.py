"""Memory that is given back to the kernel after every request, and asked for again."""

import subprocess
import sys

import pytest

PAGE_SIZE = 4096
BLOCK_SIZE = 1024 * 1024
ROUNDS = 50

PROGRAM = """
import resource, sys
from broker.server.memory import keep_freed_blocks
if sys.argv[1] == "keep" and not keep_freed_blocks():
    sys.exit(77)

def work(rounds):
    for _ in range(rounds):
        received = bytearray(b"x") * {block}
        batch = bytearray(received)
        del received, batch

work(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work({rounds})
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    """Of two megabytes that are taken, filled and freed, in sum over all rounds."""
    program = PROGRAM.format(block=BLOCK_SIZE, rounds=ROUNDS)
    command = [sys.executable, "-c", program, how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("the C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_buffer_that_costs_page_faults_in_every_request() -> None:
    pages = ROUNDS * BLOCK_SIZE // PAGE_SIZE

    assert page_faults("keep") < pages / 10
    assert page_faults("by itself") > pages, "it is no longer needed"
