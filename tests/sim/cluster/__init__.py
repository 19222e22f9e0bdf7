"""Whole nodes in one process: Raft, replication, rolls, groups and clients under one seed."""
