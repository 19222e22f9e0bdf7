"""Programs that tests need from the system, by the marker of the test."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FOREIGN = ROOT / "build" / "compat"
"""Where the clients in other languages are built."""


def kafka_jars() -> Path:
    """Where `.ci/run` put Kafka's own tools."""
    return Path(os.environ.get("KAFKA_JARS", ROOT / "build" / "kafka-jars"))


def _missing_program(name: str, package: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        return None if shutil.which(name) else f"no {name} here: apt-get install {package}"

    return missing


def _missing_java() -> str | None:
    if shutil.which("java") is None:
        return "no java here: apt-get install default-jre-headless"
    if not list(kafka_jars().glob("kafka_*.jar")):
        return (
            f"no Kafka jars in {kafka_jars()}: mvn -f compat-tests/java/pom.xml "
            f"dependency:copy-dependencies -DoutputDirectory={kafka_jars()}"
        )
    return None


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
}


def require(item: pytest.Item) -> None:
    """Skip a test whose program is missing, saying so; where CI is set, fail it."""
    for marker, missing in MISSING.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            if os.environ.get("CI") or os.environ.get("WALRUS_CI"):
                pytest.fail(f"{reason} (and this is CI, where nothing is skipped)", pytrace=False)
            pytest.skip(f"NOT TESTED, {reason}")
