"""Walrus's storage library: files, bytes and record batches. It knows no network, no event loop and
no cluster.

Start at `wal.Wal`; `batch` describes the one thing that is stored.
"""
