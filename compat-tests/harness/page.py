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

franz-go, sarama and segmentio's kafka-go are in Go, kafkajs is in JavaScript, rust-rdkafka in Rust.
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
  log directories, consoles, the performance and verifiable programs. The election of another
  leader is refused.
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

Those tests give clients patience, because a machine may be slow. `test_default_settings.py` sets
nothing: one node closes segments, is stopped and is killed under clients in Python and kcat with
the settings they come with.

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

### The clients' own suites

Each at the state named, unchanged but for addresses and what the notes say, against one node. What
failed asks for what is not offered, or for surroundings that are not here; faults of ours that were
met on the way are mended (`advertised.listeners` was missing among a node's configs, clients that
asked in two versions of one API at once, just after a start, could be sent away, and a member that
joined with a rebalance timeout of 0 was dropped before it could sync).

| suite | passed | skipped | failed | of these for several partitions | for transactions |
|---|---|---|---|---|---|
| franz-go adb3a18a, `kgo` | 106 | 6 | 4 | 4 | |
| franz-go adb3a18a, `kadm` | 11 | | | | |
| sarama bd98b3ae, functional tests | 33 | 2 | 23 | 9 | 1 |
| aiokafka 0.14.0, with C extensions | 186 | | 52 | 30 | 20 |
| kafka-python a3b3836f, integration tests | 34 | 11 | 20 | 9 | 2 |
| confluent-kafka-python 2.15.0, integration tests | 23 | 1 | 8 | 2 | 4 |
| librdkafka 4c3b017c, tests that want a broker | 63 | 2 | 17 | 13 | |
| kafka-go 3ce2979 | 98 | 4 | 15 | 12 | 1 |
| confluent-kafka-go 2.15.0 | 31 | 1 | 1 | 1 | |
| @platformatic/kafka f84b496 (2.9.0), consumer and admin | 275 | 1 | 60 | 36 | |
| kafkajs 55b0b416: admin, broker, cluster, consumer, producer | 453 | 8 | 93 | 33 | 35 |

- franz-go: `KGO_TEST_RF=1`, `KGO_TEST_MAX_TOPIC_PARTS=1`. Its transactional test waits for records
  that nobody can write, and was cut off.
- sarama: five addresses of toxiproxy before the one node, one replica instead of three,
  `KAFKA_VERSION` 3.9.1, or 4.0.0 for the matrix of versions (as with Kafka 4, there is no Produce
  2), without transactions. Of the others that failed 5 run containers, 4 want APIs that are not
  listed, 3 several nodes, and 1 a config of Kafka's log cleaner.
- aiokafka: its container replaced by an address, without TLS and SASL. The other two want to see
  `__consumer_offsets`, and a node whose id is 0.
- kafka-python: with `--group-min-session-timeout-ms 100`. 7 want APIs that are not listed, 1 an
  authorizer, 1 infers the version by those APIs; 2 that want TLS could not start.
- confluent-kafka-python: one wants SCRAM, one a config that Kafka 4.1 sets for a whole cluster.
  What needs SASL was left out.
- librdkafka: `-L -Q`, without performance, followers, transactions, TLS and SASL. 3 want Kafka's
  scripts. In one, a consumer that may create topics creates again what it has just deleted.
- kafka-go: in three parts, because two of its tests end the whole with a nil pointer of their own;
  without transactions, TLS, SASL, ACLs, quotas and reassignments. Of the other two one wants an
  API that is not listed; the other wants the host to be called `localhost`, and a topic that is
  created by being asked for not to be there at once.
- @platformatic/kafka: on Node.js 20, with the one function of 22 that it misses. Of the others that
  failed 9 want quotas, 6 an authorizer, 3 configs of other nodes or a running one, 2 three nodes,
  1 Kafka's words about a config. One was right, and is mended: the operations allowed on a group
  that does not exist (DescribeGroups before v6). Two were not looked into: an answer that lacks an
  error in `describeLogDirs`, and a `fetch` whose options the client changes itself.
- kafkajs: `KAFKA_VERSION` 2.4, its three addresses leading to the one node, without TLS, SASL and
  ACLs; the brokers 0 to 2 that five tests of idempotence look for are broker 1. Of the others that
  failed 21 want three brokers, 2 reassignments, 1 a ListOffsets 0, and 1 configs that Kafka 4 no
  longer has.

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
