"""Topics, leadership and rollover: the broker's face of the replicated metadata, and the partitions
it leads.

broker.py       this node's parts, put together        metadata.py  Raft, awaited
controller.py   what the protocols see                 data_dir.py  whose directory it is
lifecycle.py    from registration to farewell

A topic that this node leads
    leading.py    the partitions, and their segments   leases.py    what may be written
    partition.py  the high watermark, reads            appends.py   the ways in
    bucket.py     the open segment, fenced             gathered.py  what came in one turn (pure)
    checks.py     what may be appended (pure)          lookup.py    offsets by timestamp
    chain.py      sealed segments, here or elsewhere
    monitor.py    when segments roll                   roll.py      how
    handed_on.py  what still comes after a hand-over   full_disk.py what a full disk hands over
    windows.py    the idempotence window at an end     retention.py what may be deleted

What this node holds
    replicas.py      its share of the data, at work    holding.py   which copies, from the metadata
    housekeeping.py  complete, seal, delete            surplus.py   what nobody needs any more
    restart.py       what a start does first           read_back.py one copy, read back
    sealed.py        sealed segments for any reader    log_dirs.py  for admin tools

Who is alive, and what follows
    liveness.py   heartbeats and leases                absence.py   machines that say they are down
    lately.py     who lived until a moment ago         sight.py     as far as this node can tell
    supervisor.py fence, and have it sealed            sealing.py   seals given to this node
    placement.py  who writes next, and where (pure)    departures.py who leaves for good
    unclean.py    an operator accepts a loss           written.py   how far followers are
    clocks.py     what time it is, for who deletes by it
    metadata_recovery.py  offline, when most of the metadata's disks are lost

Topics and what is set for them
    topics.py       made and deleted                   everywhere.py seen by every live node
    topic_name.py   which names (pure)                 views.py     what the protocols work with
    definitions.py  what a config is (pure)            topic_config.py  those of topics (pure)
    group_config.py those of groups (pure)             group_configs.py kept in the metadata
    producer_ids.py ids nobody has had before          router.py    native requests to any leader
"""
