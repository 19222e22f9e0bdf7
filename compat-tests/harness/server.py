"""A broker as a process of its own, on free ports, with its data in a temporary folder."""

import re
import resource
import sys
from pathlib import Path

from tests.node_process import NodeProcess

WALRUS_CLI = str(Path(sys.executable).with_name("walrus-cli"))

DESCRIPTOR_COUNT = 10_000
"""Enough for thousands of connections, in this process and in the servers, which inherit it."""

_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(_soft, min(_hard, DESCRIPTOR_COUNT)), _hard))


class Server(NodeProcess):
    """The one node that clients see, and what else it shows."""

    @property
    def native(self) -> str:
        """What walrus-cli calls the address."""
        return f"127.0.0.1:{self.native_port}"

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of `name` that carry `labels`."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            sample = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if sample and sample[1] == name:
                found = dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or ""))
                if labels.items() <= found.items():
                    total += float(sample[3])
        return total

    def memory_size(self, field_name: str = "VmRSS") -> int:
        """Bytes of memory of the process now (`VmRSS`) or at most so far (`VmHWM`)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"^{field_name}:\s+(\d+) kB", status, re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024

    def segment_files(self) -> list[Path]:
        """Every file of records, in the order of their offsets for each topic."""
        return sorted(self.data_dir.rglob("*.log"))
