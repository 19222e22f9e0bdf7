"""The replication and seal protocol: one writer per segment for life, copies that are prefixes of
one sequence.

Pure machines, events in and decisions out
    writer.py    the one writer of a segment           replica.py   what one copy may accept
    seal.py      recovery of one whose writer is gone  quorum.py    the arithmetic of copies
    tail.py      what was appended last                header.py    what a new leader must know
    messages.py  what nodes say to each other

Around them
    copies.py    this node's unsealed copies           store.py     the skin over the engine
    feed.py      a stream's writing end                follow.py    its reading end
    service.py   answers to other nodes                recoverer.py seals by asking replicas
    repair.py    a copy brought up to a fixed end      remote.py    reads of what is not here
    barrier.py   who still leads                       progress.py  a mark, and who waits for it
    space.py     room on the disk                      peers.py     what is asked of the network
    network.py   that, over the peer port

A cluster of one node runs the same machines with one replica.
"""
