"""A version that nobody can name."""

import pytest

from broker.telemetry import version


def test_installed_or_not_there_is_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert version.walrus_version()
    monkeypatch.setattr(version, "DISTRIBUTION", "walrus-that-nobody-installed")
    assert version.walrus_version() == "source"
