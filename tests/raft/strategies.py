"""Random commands: mostly about things that exist, sometimes about things that do not."""

from hypothesis import strategies as st

from raft import commands as c
from tests.raft.support import DISKS, topic_id

NODES = st.integers(1, 4)
TOPIC_IDS = st.integers(1, 5).map(topic_id)
SMALL = st.integers(-1, 12)
DISK = st.sampled_from([*(DISKS[n] for n in range(1, 5)), b"n" * 16, b""])
INTEGERS = st.one_of(SMALL, st.integers(-(2**63), 2**64 - 1))
NEXT = st.builds(
    c.Next,
    writer=NODES,
    writer_incarnation=st.integers(1, 30),
    replicas=st.lists(NODES, min_size=0, max_size=3).map(tuple),
)
END = st.builds(
    c.SealedEnd,
    end_offset=st.one_of(st.integers(0, 50), INTEGERS),
    size=st.one_of(st.integers(0, 50), INTEGERS),
    digest=st.one_of(st.integers(0, 50), INTEGERS),
    max_timestamp=SMALL,
)
HOLDERS = st.lists(st.integers(1, 4).map(lambda n: (n, DISKS[n])), max_size=4).map(tuple)
ITEM = st.builds(
    c.SealItem,
    topic_id=TOPIC_IDS,
    sid=st.integers(1, 6),
    seal_epoch=st.integers(1, 8),
    end=END,
    holders=HOLDERS,
    next=NEXT,
)

GROUP_CONFIGS = st.dictionaries(st.sampled_from("xy"), st.just("1"), max_size=1)

COMMANDS: st.SearchStrategy[c.AnyCommand] = st.one_of(
    st.builds(c.FormCluster, cluster_id=st.sampled_from(["", "a", "b"])),
    st.builds(
        c.RegisterBroker,
        node=st.one_of(NODES, INTEGERS),
        disk=DISK,
        raft_host=st.just("h"),
        raft_port=st.integers(0, 70_000),
        listeners=st.just((("kafka", "h", 9092),)),
        rack=st.none(),
        clean=st.booleans(),
    ),
    st.builds(c.FenceBroker, node=NODES, incarnation=st.integers(1, 30)),
    st.builds(
        c.CreateTopic,
        topic_id=TOPIC_IDS,
        name=st.sampled_from(["", "a", "b", "c"]),
        configs=st.dictionaries(st.sampled_from("xy"), st.just("1")),
        replication_factor=st.integers(0, 3),
        internal=st.booleans(),
        pinned=st.booleans(),
        next=NEXT,
    ),
    st.builds(c.DeleteTopic, topic_id=TOPIC_IDS),
    st.builds(
        c.ChangeConfig,
        topic_id=TOPIC_IDS,
        expect_revision=SMALL,
        changes=st.dictionaries(st.sampled_from("xy"), st.one_of(st.none(), st.just("2"))),
    ),
    st.builds(
        c.ChangeGroupConfig,
        group=st.sampled_from(["", "g", "h"]),
        expect=GROUP_CONFIGS,
        configs=GROUP_CONFIGS,
    ),
    st.builds(
        c.BeginSeal,
        topic_id=TOPIC_IDS,
        sid=st.integers(1, 6),
        expect_epoch=st.integers(1, 8),
        recoverer=NODES,
    ),
    st.builds(c.BeginSealMany, node=NODES, incarnation=st.integers(1, 30)),
    st.builds(c.CommitSealMany, items=st.lists(ITEM, max_size=3).map(tuple)),
    st.builds(
        c.CommitRoll,
        topic_id=TOPIC_IDS,
        sid=st.integers(1, 6),
        open_epoch=st.integers(1, 8),
        end=END,
        holders=HOLDERS,
        next=NEXT,
    ),
    st.builds(
        c.AcceptLoss,
        topic_id=TOPIC_IDS,
        sid=st.integers(1, 6),
        expect_epoch=st.integers(1, 8),
        recoverer=NODES,
    ),
    st.builds(c.MarkLeaving, node=NODES, leaving=st.booleans()),
    st.builds(c.RemoveBroker, node=NODES, disk=DISK),
    st.builds(c.AddHolder, topic_id=TOPIC_IDS, sid=st.integers(1, 6), node=NODES, disk=DISK),
    st.builds(c.RemoveHolder, topic_id=TOPIC_IDS, sid=st.integers(1, 6), node=NODES, disk=DISK),
    st.builds(c.DeletePrefix, topic_id=TOPIC_IDS, log_start_offset=st.one_of(SMALL, INTEGERS)),
    st.builds(c.AllocateProducerIds, count=st.integers(1, 10_000)),
    st.builds(c.Barrier),
    st.builds(c.Abandon),
)
