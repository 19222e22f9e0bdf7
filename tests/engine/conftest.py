"""A disk in RAM, and an engine on it."""

import pytest

from engine.backends._memory import MemoryBackend
from tests.engine.support import Rig


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def rig(backend: MemoryBackend) -> Rig:
    return Rig(backend)
