"""The specification of replication and seals in TLA+, and what checks it."""
