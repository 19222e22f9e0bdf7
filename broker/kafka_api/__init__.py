"""The Kafka protocol: bytes in, requests to handlers, bytes out.

The way of a request: `session.py` takes the frame, `header.py` reads who asks what, `apis.py` is
the table that knows the handler, `skim.py` and `wire.py` turn the body into values,
`handlers/kNN_name.py` answers, `wire.py` and `framing.py` turn the answer into buffers. Kafka's
error numbers live in `errors.py`, documents in `docs.py`.
"""

from broker.kafka_api import wire
from broker.kafka_api.apis import SERVED
from broker.kafka_api.context import BrokerConfig, Context, Counters, KafkaConfig
from broker.kafka_api.session import KafkaSession


def prepare() -> None:
    """Load everything that a first request would otherwise load. Blocking: see `wire.prepare`."""
    wire.prepare(SERVED)


__all__ = ("BrokerConfig", "Context", "Counters", "KafkaConfig", "KafkaSession", "prepare")
