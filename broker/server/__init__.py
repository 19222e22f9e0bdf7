"""The composition root: builds a node, wires it, runs it in one task group, and drains it.

node.py            the node: what is made in which order
ending.py          what ends it
protocols.py       the two protocols, and their listeners
membership.py      the peer port, Raft on it, and the way in: founding.py, admission.py,
                   introductions.py
samples.py         what it shows at /metrics and through METRICS
side_door.py       what an operator sees and may ask; overview.py is `/v1/cluster` (pure)
broker_configs.py  what DescribeConfigs tells of it (pure)
loop.py            asyncio's event loop, a little shorter; idle_poll.py says when it need not sleep
                   (pure)
memory.py          what it tells Python's collector and the C library
descriptors.py     how many files it may have open
"""
