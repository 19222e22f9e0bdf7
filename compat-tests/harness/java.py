"""Kafka's own programs and our small ones, on the jars of one Kafka version."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.programs import ROOT, kafka_jars

SOURCES = ROOT / "compat-tests" / "java"

RUN_S_MAX = 120.0

# One version in every run, the other where time allows.
VERSIONS = [
    pytest.param("4.3.1", id="4.3"),
    pytest.param("3.9.1", id="3.9", marks=pytest.mark.full),
]


@dataclass(frozen=True, slots=True)
class Java:
    """Programs run with one version's jars, in `folder`."""

    version: str
    folder: Path

    def command(self, program: str, *arguments: str) -> list[str]:
        """`program` is a class of the jars, or a source file of ours."""
        jars = f"{kafka_jars(self.version)}/*"
        # The quick compiler alone: these programs end before the other one pays.
        flags = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        what = str(SOURCES / program) if program.endswith(".java") else program
        return ["java", *flags, "-cp", jars, what, *arguments]

    def run(self, program: str, *arguments: str, stdin: str = "", succeeds: bool = True) -> str:
        """Its output. Raises AssertionError with what it said when it fails (or does not)."""
        result = subprocess.run(
            self.command(program, *arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
            cwd=self.folder,
            check=False,
        )
        said = f"{program} {' '.join(arguments)}: {result.stdout}\n{result.stderr}"
        assert (result.returncode == 0) == succeeds, said
        return result.stdout if succeeds else result.stdout + result.stderr

    def member(
        self, kafka: str, group: str, topics: Sequence[str], **settings: object
    ) -> list[str]:
        """The command of a member of a group (see harness/processes.py)."""
        given = [f"{name.replace('_', '.')}={value}" for name, value in settings.items()]
        return self.command("Member.java", kafka, group, ",".join(topics), *given)
