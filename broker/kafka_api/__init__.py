"""The Kafka protocol: bytes in, requests to handlers, bytes out.

The way of a request: `session.py` takes the frame, `header.py` reads who asks what, `apis.py` is
the table that knows the handler, `skim.py` and `wire.py` turn the body into values,
`handlers/kNN_name.py` answers, `wire.py` and `framing.py` turn the answer into buffers. The usual
Produce and Fetch have a shorter one: `quick_produce.py` and `quick_fetch.py`, on the bytes that
`produce_wire.py` and `fetch_wire.py` read and write (pure).

What handlers share: `handler.py` (what one is), `context.py` (what it may use), `fetch_sessions.py`
(KIP-227, pure), `leaders.py` (who leads what is not led here), `behind.py` (what was sent behind a
refused batch, pure), `alter.py` and `describe.py` (configs), `groups.py` and `errors.py` (Kafka's
error numbers). For the metrics `outcome.py`, for who came in by the wrong door `strangers.py`, for
docs/kafka-api.md `docs.py`.
"""

from typing import Final

import anyio

from broker.kafka_api import wire
from broker.kafka_api.apis import APIS
from broker.kafka_api.context import BrokerConfig, Context, Counters, KafkaConfig
from broker.kafka_api.session import KafkaSession

WARM_UP_PAUSE_S: Final = 0.05
"""Between two codecs, so that requests find the interpreter free."""


async def warm_up() -> None:
    """Load what the newest clients ask when they write and read, before they do.

    Older versions, and the tools of administrators, are loaded when the first request comes.
    """
    for api in APIS:
        if not api.is_for_tools:
            await wire.load(api.key, api.served[1])
            await anyio.sleep(WARM_UP_PAUSE_S)


__all__ = ("BrokerConfig", "Context", "Counters", "KafkaConfig", "KafkaSession", "warm_up")
