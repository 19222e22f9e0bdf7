"""Replicated metadata: commands, the state they build, and the Raft that orders them.

    commands.py    what can be asked for        state.py       what there is
    apply.py       how one changes the other    draft.py       all of a change, or nothing
    brokers.py     commands about brokers       topics.py      about topics
    segments.py    about open segments          holders.py     about sealed ones
    invariants.py  what must hold after every change
    leases.py      what a node may write        pmap.py        a map that shares structure
    disk.py        the door to the disk         journal.py     the log on disk
    frames.py      the bytes of the journal
    snapshot.py    the state on disk            proposals.py   commands under way
    members.py     who takes part               membership.py  how that changes
    messages.py    what members say             transfer.py    snapshots on their way
    snapshotter.py the snapshot of one node     ground.py      pysyncobj's fields, by name
    lineup.py      the members, from the log    elections.py   who leads
    leading.py     what a leader sends          core.py        what gets into the log, and stays
    trails.py      whether nodes have parted    machine.py     what the log drives
    inbox.py       what waits for a thread      replica.py     one member at work
    groups.py      about consumer groups        errors.py      what can go wrong
    leaving.py     about leaving for good       node.py        its thread, and its doors; the only
                                                               user of pysyncobj
    recovery.py    one disk's metadata, made a cluster when the others are lost

Data never passes through here, and nothing here knows the engine or the broker.
"""
