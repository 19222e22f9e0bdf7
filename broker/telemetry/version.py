"""Which Walrus this is."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "walrus-broker"


def walrus_version() -> str:
    """The installed version, or "source" when it runs from a tree that was never installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "source"
