"""Replicated metadata: commands, the state they build, and the Raft that orders them.

    commands.py    what can be asked for        state.py       what there is
    apply.py       how one changes the other    invariants.py  what must hold after every change
    leases.py      what a node may write        pmap.py        a map that shares structure
    disk.py        the door to the disk         journal.py     the log on disk
    snapshot.py    the state on disk            proposals.py   commands under way
    core.py        pysyncobj, corrected         node.py        the node, the only user of pysyncobj

Data never passes through here, and nothing here knows the engine or the broker.
"""
