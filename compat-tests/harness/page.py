"""docs/kafka-compat.md, from what clients were seen to ask and from the files that pin them."""

import re
from collections.abc import Mapping

from broker.kafka_api.apis import APIS, SERVED
from harness.foreign import CLIENTS
from harness.programs import (
    KAFKA_PYTHON_VERSIONS,
    KAFKA_VERSIONS,
    ROOT,
    kafka_python_pinned,
)

PAGE = ROOT / "docs" / "kafka-compat.md"

Seen = Mapping[str, set[tuple[int, int]]]
"""By client: key and version of every API it asked."""

_HEAD = """\
# Which clients work

This page is generated: `make compat-page` lets the clients run and writes down what they asked.

`kmsg` is the protocol library of franz-go, which shares nothing with the one that the broker reads
and writes with. It asks every listed version of every API, reads the answers, and writes them anew
byte by byte (`compat-tests/test_every_version.py`).

## By client

Each is unmodified, in the version named. "All" of a group: three members that join, leave and are
killed; every record read once and in order, and no committed offset going back. The last column:
three nodes, of which the leader is killed under a writer and a group.
"""

_KAFKA = " and ".join(KAFKA_VERSIONS)
_KAFKA_PYTHON = " and ".join(map(kafka_python_pinned, KAFKA_PYTHON_VERSIONS))

_MIDDLE = f"""\

Clients in Python, C and Java have tests of their own in `compat-tests`: aiokafka and
confluent-kafka as locked, the system's kcat, and

- kafka-python {_KAFKA_PYTHON} (`test_kafka_python.py`): all codecs (2.0 without zstd, for which
  its fetch is too old), group, administration, idempotent (3.0).
- Java's clients {_KAFKA} (`test_java.py`, `test_java_cluster.py`): all codecs, groups (eager,
  cooperative, static), administration, idempotent, leader killed: stored once.
- Kafka's command line {_KAFKA} (`test_java_tools.py`): topics, configs, groups, offsets, records,
  log directories, consoles, the performance and verifiable programs. A wish for another leader is
  refused.
- Kafka Connect {_KAFKA} (`test_connect.py`): standalone and distributed, file source and sink, a
  killed worker.
- What the OpenMessaging Benchmark's Kafka driver asks (`test_omb.py`); it runs itself, too
  ([bench/omb](../bench/omb/README.md)).
- Apicurio Registry 3.0.9 (`test_registry.py`), a schema registry that keeps its schemas in topics:
  on one node, and two instances on three nodes of which one is killed.

Three nodes of which the leader is killed under a writer and a group: `test_leader_killed.py` does
that to aiokafka, confluent-kafka, kafka-python and kcat. `test_storm.py` lets members of aiokafka,
confluent-kafka and Java come, leave and die at random in three groups, while records are written
and a coordinator is killed, and checks what every one of them was told.

Who asks for more is told so at once: Java's transactional producer by a
TransactionalIdAuthorizationException, its `group.protocol=consumer` by an
UnsupportedVersionException.

## By hand

Not part of any target, because what it takes is in no package registry, or wants more than one
partition. Seen on 26 November 2026, each against an unmodified node of this version.

- Karapace at commit 3bbc1f8 (after 6.2.0), run from its sources, without its Protobuf part, which
  was not built. On one node: schemas of Avro registered, the same again with the same id, an
  incompatible one refused, a compatibility setting kept; a second instance reads what the first
  has written and forwards to it; the first killed, the second is elected and takes over; the
  first started again reads everything; subjects deleted on both. On three nodes (replication
  factor 3): the same but for the deletion, with the leader of `_schemas` killed in the middle;
  the next schema was taken 2.4 s later, and an election took 16 s, of which the session timeout
  is 10.
- segmentio's kafka-go 0.4.51, its own suite, in two parts: one cut off at nine minutes, one of
  readers, consumer groups and clients that a test for three partitions ended early. What failed
  asks, by its message or else by its name, for several partitions, transactions, an authorizer,
  SCRAM, quotas, TLS or reassignments; two expect that a topic that is created by being asked for
  is not there at once.
- kafka-python at commit a3b3836 (after 3.0), its integration tests: 33 passed, 11 skipped, 21
  failed, 2 could not start (TLS). Of the failures 8 ask for several partitions, 7 for APIs that
  are not listed, 2 for transactions, 1 for a session shorter than the node was set to allow, 1
  for an authorizer, 1 infers the version by those APIs; one was ours (`advertised.listeners` was
  missing among a node's configs), and is mended.
- franz-go's suite: 103 passed; the rest asks for several partitions, transactions or share
  groups.

sarama's functional tests want five nodes behind toxiproxy, topics of 4 and 64 partitions and
transactions; aiokafka's start Kafka's own image. They were not run.

## By API

The version in which each client asks, in a session that writes, reads, joins a group, and does an
administrator's round trip. Where none is named, kmsg is the proof, and the clients in Python, C and
Java are.
"""


def rendered(seen: Seen) -> str:
    """The whole page."""
    clients = [
        "| client | version | codecs | group | administration | idempotent | leader killed |",
        "|---|---|---|---|---|---|---|",
    ]
    for client in CLIENTS:
        stored = "stored once" if client.is_idempotent else "nothing lost; may be stored twice"
        idempotent = "yes" if client.is_idempotent else "not offered by it"
        clients.append(
            f"| {client.name} | {pinned(client.name)} | {', '.join(client.codecs)} "
            f"| all | yes | {idempotent} | {stored} |"
        )
    apis = ["| key | API | versions, all by kmsg | asked by |", "|---|---|---|---|"]
    for api in APIS:
        asked = [
            f"{client} {_versions(found, api.key)}"
            for client, found in seen.items()
            if _versions(found, api.key)
        ]
        lowest, highest = api.served
        apis.append(f"| {api.key} | {api.name} | {lowest}-{highest} | {', '.join(asked)} |")
    return "\n".join([_HEAD, *clients, _MIDDLE, *apis, ""])


def _versions(seen: set[tuple[int, int]], key: int) -> str:
    return "/".join(f"v{version}" for asked, version in sorted(seen & {*SERVED}) if asked == key)


def pinned(client: str) -> str:
    """The version that its own manifest names. Raises AssertionError if it names none."""
    manifests = {
        "franz": ("go/go.mod", r"twmb/franz-go v(\S+)"),
        "sarama": ("go/go.mod", r"IBM/sarama v(\S+)"),
        "segmentio": ("go/go.mod", r"segmentio/kafka-go v(\S+)"),
        "kafkajs": ("js/package.json", r'"kafkajs": "(\S+)"'),
        "rdkafka": ("rust/Cargo.toml", r'rdkafka = \{ version = "=(\S+)"'),
    }
    path, pattern = manifests[client]
    found = re.search(pattern, (ROOT / "compat-tests" / path).read_text())
    assert found, f"{path} does not pin {client}"
    return found[1]
