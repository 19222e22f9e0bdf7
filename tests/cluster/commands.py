"""The command line as an operator has it."""

import subprocess
import sys

from tests.cluster.processes import Node
from tests.node_process import ROOT


def walrus(*words: str) -> subprocess.CompletedProcess[str]:
    """What it says, whether it succeeds or not."""
    command = (sys.executable, "-m", "broker.cli.main", *words)
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def walrus_cluster(*words: str, by: Node) -> subprocess.CompletedProcess[str]:
    """`walrus cluster`, asked of one node."""
    return walrus("cluster", *words, "--addr", f"127.0.0.1:{by.admin_port}")
