"""Programs that tests need from the system, by the marker of the test."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FOREIGN = ROOT / "build" / "compat"
"""Where the clients in other languages are built."""


KAFKA_VERSIONS = ("3.9.1", "4.3.1")


def kafka_jars(version: str = "3.9.1") -> Path:
    """Where `make build-compat-java` puts Kafka's own programs."""
    return ROOT / "build" / "kafka-jars" / version


def _missing_program(name: str, package: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        return None if shutil.which(name) else f"no {name} here: apt-get install {package}"

    return missing


def _missing_java() -> str | None:
    if shutil.which("javac") is None:
        return "no javac here: apt-get install default-jdk-headless"
    for version in KAFKA_VERSIONS:
        if not list(kafka_jars(version).glob("kafka_*.jar")):
            return f"no jars in {kafka_jars(version)}: make build-compat-java (needs Maven)"
    return None


KAFKA_PYTHON_VERSIONS = ("2.0", "3.0")


def kafka_python(version: str) -> Path:
    """Where `make build-compat-kafka-python` puts one version, to be put before all others."""
    return ROOT / "build" / "kafka-python" / version


def kafka_python_pinned(version: str) -> str:
    """Its whole number, from the file that pins it."""
    path = ROOT / "compat-tests" / "kafka_python" / f"requirements-{version}.txt"
    found = re.search(r"^kafka-python==(\S+)", path.read_text(), re.MULTILINE)
    assert found is not None, path
    return found[1]


def _missing_kafka_python() -> str | None:
    for version in KAFKA_PYTHON_VERSIONS:
        if not (kafka_python(version) / "kafka").is_dir():
            return f"no kafka-python in {kafka_python(version)}: make build-compat-kafka-python"
    return None


def registry_jar() -> Path:
    """Where `make build-compat-registry` puts the schema registry."""
    return next((ROOT / "build" / "registry").glob("apicurio-registry-app-*-runner.jar"), Path())


def _missing_registry() -> str | None:
    if registry_jar().is_file():
        return None
    return "no schema registry in build/registry: make build-compat-registry (needs Maven)"


def _missing_build(language: str, built: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        if (FOREIGN / language / built).exists():
            return None
        return f"no {language} clients are built: make compat-{language}"

    return missing


MISSING: dict[str, Callable[[], str | None]] = {
    "kcat": _missing_program("kcat", "kcat"),
    "strace": _missing_program("strace", "strace"),
    "java": _missing_java,
    "go": _missing_build("go", "franz"),
    "js": _missing_build("js", "node_modules/kafkajs"),
    "rust": _missing_build("rust", "target/debug/walrus-compat"),
    "connect": _missing_java,
    "kafka_python": _missing_kafka_python,
    "registry": _missing_registry,
}


def require(item: pytest.Item) -> None:
    """Skip a test whose program is missing, saying so; where CI is set, fail it."""
    for marker, missing in MISSING.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            if os.environ.get("CI") or os.environ.get("WALRUS_CI"):
                pytest.fail(f"{reason} (and this is CI, where nothing is skipped)", pytrace=False)
            pytest.skip(f"NOT TESTED, {reason}")
