"""A storm of rebalances: members of three groups come, leave and are killed, while records are
written, and while the node that coordinates them is killed. What every group was told is checked
against what must hold of it (harness/history.py).

    STORM_SECONDS=600 STORM_SEED=7 pytest compat-tests/test_storm.py
"""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from harness.groups import positions
from harness.history import Observed, Told, problems
from harness.java import Java
from harness.processes import Client
from tests.cluster.processes import Cluster, Node
from tests.node_process import ROOT, clean_environment

GROUP_COUNT, TOPIC_COUNT, MEMBERS_MAX = 3, 4, 4
WRITE_PAUSE_S = 0.02
FLUSH_S_MAX = 120.0
STALL_S_MAX = 60.0

ROUND_ROBIN = "org.apache.kafka.clients.consumer.RoundRobinAssignor"


class Writer:
    """Writes to all topics all the time, idempotent; knows what was acknowledged, and where."""

    def __init__(self, kafka: str, topics: Sequence[str]) -> None:
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": kafka,
                "enable.idempotence": True,
                "linger.ms": 5,
                "reconnect.backoff.max.ms": 500,
                "delivery.timeout.ms": 120_000,
                "log_level": 2,
            }
        )
        self._topics = topics
        self._acked: dict[str, dict[int, str]] = {topic: {} for topic in topics}
        self._failures: list[Any] = []
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._is_ended.wait(WRITE_PAUSE_S):
            for topic in self._topics:
                value = f"{topic}/{number}"
                self._producer.produce(topic, value.encode(), on_delivery=self._delivered)
            number += 1
            self._producer.poll(0)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failures.append(error)
        else:
            self._acked[message.topic()][message.offset()] = message.value().decode()

    def finish(self) -> dict[str, list[str]]:
        """Everything, by topic and in the order of offsets. Raises AssertionError if any of it was
        not acknowledged, or out of order, or stored twice."""
        self._is_ended.set()
        self._thread.join()
        assert self._producer.flush(FLUSH_S_MAX) == 0
        assert not self._failures, self._failures[:3]
        for topic, acked in self._acked.items():
            assert [acked.get(offset) for offset in range(len(acked))] == [
                f"{topic}/{number}" for number in range(len(acked))
            ]
        return {topic: list(acked.values()) for topic, acked in self._acked.items()}


@dataclass
class Storm:
    """Three groups on a cluster, and everything that was ever told about them."""

    cluster: Cluster
    folder: Path
    chance: random.Random
    clients: Sequence[str]
    topics: Sequence[str]
    alive: dict[str, list[tuple[Client, float]]] = field(default_factory=dict)
    all: dict[str, list[tuple[Client, float]]] = field(default_factory=dict)
    observed: dict[str, Observed] = field(default_factory=dict)
    did: list[str] = field(default_factory=list)

    @property
    def groups(self) -> list[str]:
        return [f"g{number}" for number in range(GROUP_COUNT)]

    def note(self, what: str) -> None:
        self.did.append(what)
        print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr)

    # ---- what members do -------------------------------------------------------------------------

    def join(self, group: str) -> None:
        client = self.chance.choice(self.clients)
        name = f"{group}-{len(self.all.setdefault(group, [])) + 1}-{client}"
        one = Client(
            self._command(client, group),
            self.folder / f"{name}.log",
            clean_environment({"PYTHONPATH": f"{ROOT}:{ROOT / 'compat-tests'}"}),
        )
        self.all[group].append((one, time.monotonic()))
        self.alive.setdefault(group, []).append(self.all[group][-1])
        self.note(f"{name} joins")

    def _command(self, client: str, group: str) -> list[str]:
        kafka = self.cluster.bootstrap
        if client == "java":
            given = {"partition_assignment_strategy": ROUND_ROBIN, "reconnect_backoff_max_ms": 500}
            return Java("4.3.1", self.folder).member(kafka, group, self.topics, **given)
        return [sys.executable, "-m", "harness.member", client, kafka, group, ",".join(self.topics)]

    def _take(self, group: str) -> Client:
        living = self.alive[group]
        return living.pop(self.chance.randrange(len(living)))[0]

    def leave(self, group: str) -> None:
        one = self._take(group)
        assert one.process.stdin is not None
        one.process.stdin.close()
        self.note(f"{one.log_path.stem} leaves")

    def kill(self, group: str) -> None:
        one = self._take(group)
        one.kill()
        self.note(f"{one.log_path.stem} is killed")

    def disturb(self) -> None:
        """Let something happen to one group. There is always somebody left."""
        group = self.chance.choice(self.groups)
        count = len(self.alive[group])
        choices: list[Callable[[str], None]] = []
        if count < MEMBERS_MAX:
            choices.append(self.join)
        if count > 1:
            choices += [self.leave, self.kill]
        self.chance.choice(choices)(group)

    def check_alive(self) -> None:
        for group in self.groups:
            for one, _ in self.alive[group]:
                assert not one.has_ended(), f"{one.log_path.stem} died: {one.said()}"

    # ---- what is seen from outside ---------------------------------------------------------------

    def observe(self, group: str) -> Mapping[str, int]:
        asked = time.monotonic()
        try:
            found = positions(self.cluster.bootstrap, group)
        except confluent_kafka.KafkaException:
            return {}  # nobody answers just now
        self.observed.setdefault(group, Observed()).answers.append((asked, found))
        return found

    def coordinator(self) -> Node:
        """Of one of the groups, by chance."""
        number = self.chance.randrange(8)
        names = [f"__consumer_offsets_{(number + step) % 8}" for step in range(8)]
        found = (self.cluster.leader(name) for name in names)
        return next(node for node in found if node is not None)

    # ---- its course ------------------------------------------------------------------------------

    def blow(self, seconds: float) -> None:
        """Disturb the groups, and kill the coordinator a third of the way, and start it again."""
        begun = time.monotonic()
        victim: Node | None = None
        while (passed := time.monotonic() - begun) < seconds:
            self.disturb()
            self.observe(self.chance.choice(self.groups))
            self.check_alive()
            if victim is None and passed > seconds / 3:
                victim = self.coordinator()
                victim.kill()
                self.note(f"node {victim.node_id}, a coordinator, is killed")
            elif victim is not None and not victim.is_running and passed > seconds * 2 / 3:
                victim.start()
                self.note(f"node {victim.node_id} is started")
            time.sleep(self.chance.uniform(0.1, 1.0))
        if victim is not None and not victim.is_running:
            victim.start()

    def settle(self, written: Mapping[str, Sequence[str]]) -> None:
        """Wait until every group has committed everything, and let everybody leave."""
        ends = {topic: len(values) for topic, values in written.items()}
        for group in self.groups:
            self._follow(group, ends)
        for group in self.groups:
            for one, _ in self.alive[group]:
                one.close()

    def _follow(self, group: str, ends: Mapping[str, int]) -> None:
        """However slow the machine: members commit each record by itself."""
        last: Mapping[str, int] = {}
        moved_at = time.monotonic()
        while (found := self.observe(group)) != ends:
            self.check_alive()
            if found and found != last:
                last, moved_at = found, time.monotonic()
            stalled_s = time.monotonic() - moved_at
            assert stalled_s < STALL_S_MAX, f"{group} stands still at {last} of {ends}"
            time.sleep(0.1)

    def told(self, group: str) -> list[Told]:
        return [Told(one.log_path.stem, started, one.events) for one, started in self.all[group]]

    def keep(self) -> None:
        """Leave everything that was told beside the logs."""
        for members in self.all.values():
            for one, _ in members:
                lines = "\n".join("\t".join(event) for event in one.events)
                one.log_path.with_suffix(".events").write_text(f"{lines}\n")

    def close(self) -> None:
        for members in self.all.values():
            for one, _ in members:
                one.discard()


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.confluent
@pytest.mark.aiokafka
@pytest.mark.java
@pytest.mark.timeout(1_000)
@pytest.mark.parametrize(
    "seconds", [12, pytest.param(75, marks=pytest.mark.full)], ids=["short", "long"]
)
def test_record_or_position_that_a_group_loses_in_a_storm(tmp_path: Path, seconds: int) -> None:
    seconds = int(os.environ.get("STORM_SECONDS", seconds))
    seed = int(os.environ.get("STORM_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"STORM_SEED={seed} STORM_SECONDS={seconds}")
    cluster = Cluster(tmp_path)
    topics = [f"t{number}" for number in range(TOPIC_COUNT)]
    clients = ("aiokafka", "confluent", "java")
    storm = Storm(cluster, tmp_path, random.Random(seed), clients, topics)
    try:
        cluster.start()
        for topic in topics:
            cluster.register(topic)
        writer = Writer(cluster.bootstrap, topics)
        for group in storm.groups:
            storm.join(group)
        storm.blow(seconds)
        written = writer.finish()
        storm.settle(written)
        found = [
            f"{group}: {problem}"
            for group in storm.groups
            for problem in problems(storm.told(group), storm.observed[group], written)
        ]
        assert not found, "\n".join(found[:20])
        print(f"{sum(map(len, written.values()))} records, {len(storm.did)} disturbances")
    finally:
        storm.keep()
        storm.close()
        cluster.close()
