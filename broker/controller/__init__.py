"""Topics, leadership and rollover: the broker's face of the replicated metadata, and the partitions
it leads."""
