"""A banner whose lines do not work when they are pasted."""

from dataclasses import replace

import pytest

from broker.cli.banner import banner, durability
from broker.config import HostPort, Listener
from broker.telemetry.start import BannerInfo
from tests.broker.admin.fakes import status

INFO = BannerInfo(
    status=status(ready=True),
    native=HostPort("127.0.0.1", 8080),
    kafka=(Listener("PLAINTEXT", "127.0.0.1", 9092, "127.0.0.1", 9092),),
    admin=HostPort("127.0.0.1", 9644),
)


def test_everything_a_newcomer_needs_is_there() -> None:
    text = banner(INFO)
    for part in (
        "127.0.0.1:8080",
        "127.0.0.1:9092",
        "http://127.0.0.1:9644",
        "/data",
        "1 of cluster Zm9v",
        "pread: io_uring refused (EPERM)",
        "--fsync each",
        "walrus-cli --addr 127.0.0.1:8080 register hello",
        "walrus-cli --addr 127.0.0.1:8080 put hello 'hello world'",
        "walrus-cli --addr 127.0.0.1:8080 get hello",
        "kcat -b 127.0.0.1:9092 -t hello -P",
    ):
        assert part in text


def test_a_wildcard_is_not_an_address_to_paste() -> None:
    info = replace(
        INFO,
        native=HostPort("0.0.0.0", 8080),
        admin=HostPort("::", 9644),
        kafka=(Listener("OUTER", "0.0.0.0", 9092, "broker1", 19092),),
    )
    text = banner(info, cli=".venv/bin/walrus-cli")
    assert ".venv/bin/walrus-cli --addr 127.0.0.1:8080 get hello" in text
    assert "http://[::1]:9644" in text
    assert "0.0.0.0:9092  (OUTER, clients are told broker1:19092)" in text
    assert "kcat -b 127.0.0.1:9092" in text


@pytest.mark.parametrize(("fsync", "part"), [("each", "synced"), ("none", "NOT"), ("50", "50 ms")])
def test_weak_durability_is_said_out_loud(fsync: str, part: str) -> None:
    assert part in durability(fsync)
