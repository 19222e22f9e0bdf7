"""A node that is asked to stop: whom it refuses, and when."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio

from broker.config import Config
from broker.groups.messages import Who
from broker.groups.records import OffsetValue
from broker.server.ending import Ending
from broker.server.node import Node
from broker.telemetry.clock import SystemClock
from tests.broker.one_node import OneNode, running


def stopping(one: OneNode, happened: list[str]) -> Node:
    """The end of a node whose parts are those of `one`."""

    async def hand_over() -> None:
        happened.append("handing over")
        topic_id = (await one.topic()).topic.topic_id
        value = {topic_id: OffsetValue(1, -1, "", 0)}
        await (await one.groups.commit_offsets("g", Who(""), -1, value))()
        happened.append("committed")

    async def drain(_: float) -> None:
        happened.append("drained")

    node = cast(Any, object.__new__(Node))
    node._ending, node._config, node._detail = Ending(1, SystemClock()), Config(), ""
    node._groups = one.groups
    node._broker = SimpleNamespace(hand_over=hand_over)
    node._protocols = SimpleNamespace(stop=lambda: happened.append("long polls end"))
    node._net = SimpleNamespace(drain=drain)
    return cast(Node, node)


async def test_members_are_refused_before_there_is_another_coordinator(tmp_path: Path) -> None:
    """They would be sent back here by every node they ask."""
    happened: list[str] = []
    async with running(tmp_path) as one:
        with anyio.fail_after(60):
            await stopping(one, happened)._drain()
    assert happened == ["handing over", "committed", "long polls end", "drained"]
