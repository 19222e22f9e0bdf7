"""Walrus's storage library: files, bytes and record batches. It knows no network, no event loop and
no cluster.

Start at `wal.Wal`; `batch` describes the one thing that is stored.

wal.py             the face: all logs under one directory
log.py             one topic's segments
segment.py         one copy: append, promise, seal, read
head.py            what came before it, on its way into a file
appender.py        its one write in flight; write_queue.py what goes into the next one
segment_reader.py  its reads; reader.py finds whole batches in a file, batch_run.py where they are
segment_files.py   its files, and the order in which they become durable
recovery.py        a log file read back after a restart
durability.py      when an append counts as durable; group commit
services.py        what all segments share; jobs.py, open_files.py two of these things
backends/          the only door to the disk
errors.py          what is raised

Bytes and values alone (pure): batch.py, batch_run.py, records.py, format.py, index.py,
write_queue.py, producer_state.py (the idempotence window).
"""
