"""The answer to "Kafka is offset based, Walrus is message based": offset = base(segment) + index,
exactly."""

from broker.offset_map.map import Located, OffsetMap, Span

__all__ = ["Located", "OffsetMap", "Span"]
