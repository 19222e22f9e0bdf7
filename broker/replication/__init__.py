"""The replication and seal protocol: one writer per segment for life, copies that are prefixes of
one sequence.

`writer.py`, `replica.py` and `seal.py` are pure state machines (events in, decisions out);
`store.py` is their I/O skin over the storage engine. A cluster of one node runs the same machines
with one replica.
"""
