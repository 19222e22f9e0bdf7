"""What the native protocol calls the errors of the broker (pure).

The first three texts are the original's; programs may look for them. The others are the error's own
words.
"""

from broker.errors import (
    MetadataUnavailable,
    NotLeader,
    OutcomeUnknown,
    OutOfTouch,
    RequestError,
    UnknownTopic,
    UnknownTopicId,
)

_TEXTS: dict[type[RequestError], str] = {
    UnknownTopic: "unknown topic {topic}",
    UnknownTopicId: "unknown topic {topic}",
    NotLeader: "NotLeaderForPartition: t_{topic}_s_{segment}",
    OutOfTouch: "NotLeaderForPartition: t_{topic}_s_{segment} ({error})",
    OutcomeUnknown: "outcome unknown, the message may or may not be stored: {error}",
    MetadataUnavailable: "the cluster cannot decide just now: {error}",
}


def text_of(error: RequestError, topic: str, segment: int = 0) -> str:
    """The words after `ERR `. `segment` is the topic's open one."""
    template = next((_TEXTS[kind] for kind in type(error).__mro__ if kind in _TEXTS), "{error}")
    return template.format(topic=topic, segment=segment, error=error)
