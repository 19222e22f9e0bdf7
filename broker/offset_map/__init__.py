"""The answer to "Kafka is offset based, Walrus is message based": offset = base(segment) + index,
exactly. All of it is in map.py."""

from broker.offset_map.map import Located, OffsetMap, Span

__all__ = ["Located", "OffsetMap", "Span"]
