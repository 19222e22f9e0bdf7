"""The metadata's Raft under a seeded network, seeded disks, kills and power cuts."""
