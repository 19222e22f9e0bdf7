"""Consumer groups and whatever else is remembered by key: state logs on the ordinary data path.

coordinator.py   the protocols' door to the groups of this node
shards.py        where they are: eight internal topics
shard.py         one of them: machines and offsets, every change in the log
state_log.py     the log: load by reading, change by appending
timers.py        when which group wants to be looked at
sweeper.py       what is too old goes

The group protocol (pure): group.py, generations.py, roster.py (who is in it), states.py,
messages.py (events, answers, effects), subscription.py (what consumers say they want), expiry.py
(which positions a group may lose), views.py (as tools see it).

What is stored (pure): keyed.py (changes, snapshots), records.py (keys and values).
For the metrics: counts.py, samples.py.
"""
