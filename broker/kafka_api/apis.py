"""THE table: which Kafka APIs are served, in which versions, and where.

`served` is what is answered. `advertised` is what ApiVersions lists, and it is the same except for
Produce, where KAFKA-18659 asks for a lie: librdkafka before 2.11.1 takes a lowest version above 0
to mean a broker too old for gzip, snappy and lz4, and silently sends everything uncompressed. Kafka
4 advertises 0 and serves from 3, and so do we. An API that is not in the table is not listed, and a
client then does without it; one that is listed but wrong, no client survives. Flexible versions
(KIP-482) have tagged fields in body and headers.

The ApiVersions response, the labels of metrics and docs/kafka-api.md are derived from this table.
"""

from dataclasses import dataclass
from typing import Final

from broker.kafka_api.handler import Handler

# One import for all, by number, so that a row of the table fits its line.
# isort: off
from broker.kafka_api.handlers import (
    k00_produce as k00,
    k01_fetch as k01,
    k02_list_offsets as k02,
    k03_metadata as k03,
    k08_offset_commit as k08,
    k09_offset_fetch as k09,
    k10_find_coordinator as k10,
    k11_join_group as k11,
    k12_heartbeat as k12,
    k13_leave_group as k13,
    k14_sync_group as k14,
    k15_describe_groups as k15,
    k16_list_groups as k16,
    k18_api_versions as k18,
    k19_create_topics as k19,
    k20_delete_topics as k20,
    k21_delete_records as k21,
    k22_init_producer_id as k22,
    k23_offset_for_leader_epoch as k23,
    k29_describe_acls as k29,
    k30_create_acls as k30,
    k31_delete_acls as k31,
    k32_describe_configs as k32,
    k33_alter_configs as k33,
    k35_describe_log_dirs as k35,
    k37_create_partitions as k37,
    k42_delete_groups as k42,
    k44_incremental_alter_configs as k44,
    k47_offset_delete as k47,
    k60_describe_cluster as k60,
)
# isort: on

API_VERSIONS_KEY: Final = 18

TOOLS: Final = "admin tools"


@dataclass(frozen=True, slots=True)
class Api:
    """One row. Versions are inclusive."""

    key: int
    name: str
    served: tuple[int, int]
    advertised: tuple[int, int]
    first_flexible: int
    handler: Handler
    clients: str
    """What of a client's life depends on it."""

    @property
    def is_for_tools(self) -> bool:
        """Whether clients write and read without it."""
        return self.clients == TOOLS

    def serves(self, version: int) -> bool:
        """Whether requests of `version` are answered."""
        return self.served[0] <= version <= self.served[1]

    def is_flexible(self, version: int) -> bool:
        """Whether the request header carries tagged fields."""
        return version >= self.first_flexible

    def has_flexible_reply(self, version: int) -> bool:
        """Whether the response header carries tagged fields.

        Those of ApiVersions never do: a client reads one before it knows the broker's versions.
        """
        return self.is_flexible(version) and self.key != API_VERSIONS_KEY


APIS: Final[tuple[Api, ...]] = (
    # key, name, versions served, advertised, first flexible, handler, what depends on it
    Api(0,  "Produce",                 (3, 12), (0, 12), 9,  k00, "writing"),
    Api(1,  "Fetch",                   (4, 17), (4, 17), 12, k01, "reading"),
    Api(2,  "ListOffsets",             (1, 9),  (1, 9),  6,  k02, "where reading starts"),
    Api(3,  "Metadata",                (0, 13), (0, 13), 9,  k03, "finding the log"),
    Api(8,  "OffsetCommit",            (2, 9),  (2, 9),  8,  k08, "groups: committing"),
    Api(9,  "OffsetFetch",             (1, 9),  (1, 9),  6,  k09, "groups: resuming"),
    Api(10, "FindCoordinator",         (0, 6),  (0, 6),  3,  k10, "groups: whom to ask"),
    Api(11, "JoinGroup",               (0, 9),  (0, 9),  6,  k11, "groups: a generation"),
    Api(12, "Heartbeat",               (0, 4),  (0, 4),  4,  k12, "groups: staying in"),
    Api(13, "LeaveGroup",              (0, 5),  (0, 5),  4,  k13, "groups: closing"),
    Api(14, "SyncGroup",               (0, 5),  (0, 5),  4,  k14, "groups: assignments"),
    Api(15, "DescribeGroups",          (0, 6),  (0, 6),  5,  k15, TOOLS),
    Api(16, "ListGroups",              (0, 5),  (0, 5),  3,  k16, TOOLS),
    Api(18, "ApiVersions",             (0, 4),  (0, 4),  3,  k18, "connecting"),
    Api(19, "CreateTopics",            (2, 7),  (2, 7),  5,  k19, "creating topics"),
    Api(20, "DeleteTopics",            (1, 6),  (1, 6),  4,  k20, "deleting topics"),
    Api(21, "DeleteRecords",           (0, 2),  (0, 2),  2,  k21, TOOLS),
    Api(22, "InitProducerId",          (0, 5),  (0, 5),  2,  k22, "idempotent writing"),
    Api(23, "OffsetForLeaderEpoch",    (2, 4),  (2, 4),  4,  k23, "reading on at a new leader"),
    Api(29, "DescribeAcls",            (1, 3),  (1, 3),  2,  k29, TOOLS),
    Api(30, "CreateAcls",              (1, 3),  (1, 3),  2,  k30, TOOLS),
    Api(31, "DeleteAcls",              (1, 3),  (1, 3),  2,  k31, TOOLS),
    Api(32, "DescribeConfigs",         (1, 4),  (1, 4),  4,  k32, TOOLS),
    Api(33, "AlterConfigs",            (0, 2),  (0, 2),  2,  k33, TOOLS),
    Api(35, "DescribeLogDirs",         (1, 4),  (1, 4),  2,  k35, TOOLS),
    Api(37, "CreatePartitions",        (0, 3),  (0, 3),  2,  k37, TOOLS),
    Api(42, "DeleteGroups",            (0, 2),  (0, 2),  2,  k42, TOOLS),
    Api(44, "IncrementalAlterConfigs", (0, 1),  (0, 1),  1,  k44, TOOLS),
    Api(47, "OffsetDelete",            (0, 0),  (0, 0),  99, k47, TOOLS),
    Api(60, "DescribeCluster",         (0, 2),  (0, 2),  0,  k60, TOOLS),
)  # fmt: skip

BY_KEY: Final = {api.key: api for api in APIS}

PRODUCE: Final = BY_KEY[0]
FETCH: Final = BY_KEY[1]

SERVED: Final = tuple(
    (api.key, version) for api in APIS for version in range(api.served[0], api.served[1] + 1)
)
"""Every (key, version) that is answered."""

ADVERTISED: Final = tuple((api.key, *api.advertised) for api in APIS)
"""(key, lowest, highest) for ApiVersions."""
