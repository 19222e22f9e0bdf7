"""Configs of groups: changes of several people at once are all in force, and survive a restart."""

from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from broker.errors import InvalidConfig, InvalidRequest
from tests.broker.one_node import running

SESSION, HEARTBEAT = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"


async def test_changes_of_two_at_once_are_both_in_force_and_survive(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        calls = 0

        async def change(name: str, value: str) -> None:
            def edit(configs: Mapping[str, str]) -> Mapping[str, str]:
                nonlocal calls
                calls += 1
                return {**configs, name: value}

            await node.controller.configure_group("g", edit)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(change, SESSION, "50000")
            tasks.start_soon(change, HEARTBEAT, "6000")
        assert calls == 3, "nobody had to try again, so this test shows nothing"
    async with running(tmp_path) as node:
        assert node.controller.group_configs("g") == {SESSION: "50000", HEARTBEAT: "6000"}
        await node.controller.configure_group("g", lambda _: {})
        assert node.controller.group_configs("g") == {}


async def test_nothing_changes_when_it_is_refused_or_only_tried(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        configure = node.controller.configure_group
        await configure("g", lambda _: {SESSION: "50000"}, validate_only=True)
        with pytest.raises(InvalidConfig, match="from 45000 to 60000"):
            await configure("g", lambda _: {SESSION: "6000"})
        with pytest.raises(InvalidConfig, match=r"no config share\.isolation\.level"):
            await configure("g", lambda _: {"share.isolation.level": "read_committed"})
        for name in ("", "g" * 1025):
            with pytest.raises(InvalidRequest, match="1 to 1024"):
                await configure(name, lambda _: {SESSION: "50000"})
        assert node.controller.group_configs("g") == {}
