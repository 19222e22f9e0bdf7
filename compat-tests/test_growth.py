"""A request must not cost more because there is more: topics, segments, bytes. Counted, not timed.

Logarithms are allowed, walks are not: each bound is a few hundred instructions above what the same
request took on an empty node, and a walk over a hundred of anything takes more.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count as numbered
from pathlib import Path

import pytest

from harness import wire
from harness.counted import COUNT, counting_server, instructions
from harness.server import Server
from harness.wire import Wire
from tests.node_process import ROOT

TOPICS = 100
SEGMENTS = 60
BATCHES = 200
ENTRIES = 50
"""Per batch, and half of what a segment may hold before an append rolls it at once."""
ENTRY_SIZE = 400

SOURCES = tuple(str(ROOT / package) for package in ("broker", "engine", "raft"))
LOOP = str(ROOT / "broker" / "server" / "loop.py")

GROWTH_MAX = 400
"""Instructions per request; a Produce takes some 9,000."""


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    server = counting_server(tmp_path, getattr(request, "param", {}))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def peer(server: Server) -> Iterator[Wire]:
    with Wire(server.kafka_port) as peer:
        yield peer


def make_topics(peer: Wire, names: list[str]) -> None:
    """By asking for them."""
    peer.ask(wire.METADATA, 1, wire.metadata(names))


def produce(peer: Wire, topic: str, count: int) -> int:
    """`count` records in one batch; where the next one goes."""
    body = wire.produce(topic, wire.batch([b"x" * ENTRY_SIZE] * count))
    produced = wire.parse_produce(peer.ask(wire.PRODUCE, 3, body))
    assert produced.error == 0
    return produced.base_offset + count


def fetch(peer: Wire, topic: str, offset: int) -> None:
    """One batch."""
    body = wire.fetch(topic, offset, size_max=1)
    fetched = wire.parse_fetch(peer.ask(wire.FETCH, 11, body))
    assert fetched.error == 0
    assert len(fetched.records) > ENTRY_SIZE


def assert_no_growth(what: str, before: Counter[str], after: Counter[str]) -> None:
    # The event loop's own turns are more where the machine is slower.
    ours = [name for name in after if name.startswith(SOURCES) and not name.startswith(LOOP)]
    dearer = Counter({name: after[name] - before[name] for name in ours})
    growth = dearer.total() / COUNT
    most = "\n".join(f"{count / COUNT:8.1f} {name}" for name, count in dearer.most_common(20))
    assert growth <= GROWTH_MAX, f"{what}: {growth:.0f} instructions more per request:\n{most}"


def test_a_request_that_costs_more_on_a_node_with_many_topics(server: Server, peer: Wire) -> None:
    make_topics(peer, ["t"])
    produce(peer, "t", 1)
    asked: dict[str, Callable[[], object]] = {
        "fetch": partial(fetch, peer, "t", 0),
        "produce": partial(produce, peer, "t", 1),
    }
    before = {name: instructions(server, ask) for name, ask in asked.items()}

    names = [f"t{number}" for number in range(TOPICS)]
    make_topics(peer, names)
    for name in names:
        produce(peer, name, 1)

    for name, ask in asked.items():
        assert_no_growth(name, before[name], instructions(server, ask))


def test_a_topic_that_costs_more_to_make_where_there_are_many(server: Server, peer: Wire) -> None:
    numbers = numbered()

    def make_one() -> None:
        make_topics(peer, [f"new-{next(numbers)}"])

    before = instructions(server, make_one)
    make_topics(peer, [f"t{number}" for number in range(4 * TOPICS)])
    assert_no_growth("create", before, instructions(server, make_one))


@pytest.mark.parametrize(
    "server", [{"WALRUS_MAX_SEGMENT_ENTRIES": str(ENTRIES // 2)}], indirect=True, ids=["rolls"]
)
def test_a_request_that_costs_more_in_a_topic_with_many_segments(
    server: Server, peer: Wire
) -> None:
    make_topics(peer, ["short", "long"])
    segments = {"short": 2, "long": SEGMENTS}
    for topic, count in segments.items():
        ends = [produce(peer, topic, ENTRIES) for _ in range(count)]
        assert ends == [ENTRIES * (number + 1) for number in range(count)]

    costs = {
        topic: instructions(server, partial(fetch, peer, topic, ENTRIES * (count // 2)))
        for topic, count in segments.items()
    }
    assert_no_growth("fetch", costs["short"], costs["long"])
    costs = {topic: instructions(server, partial(produce, peer, topic, 1)) for topic in segments}
    assert_no_growth("produce", costs["short"], costs["long"])


def test_a_request_that_costs_more_in_a_large_segment(server: Server, peer: Wire) -> None:
    make_topics(peer, ["small", "large"])
    batches = {"small": 10, "large": BATCHES}
    for topic, count in batches.items():
        for _ in range(count):
            produce(peer, topic, ENTRIES)

    costs = {
        topic: instructions(server, partial(fetch, peer, topic, ENTRIES * (count // 2)))
        for topic, count in batches.items()
    }
    assert_no_growth("fetch", costs["small"], costs["large"])
    costs = {topic: instructions(server, partial(produce, peer, topic, 1)) for topic in batches}
    assert_no_growth("produce", costs["small"], costs["large"])
