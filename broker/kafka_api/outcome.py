"""How a response ended, in one word, for metrics (pure).

Kafka puts error codes in four places: the response, its topics, their partitions, its results. The
first one that is not NONE names the outcome; a response with several different errors is counted
once.
"""

from typing import Final

from kio.schema.errors import ErrorCode

_LISTS: Final = ("responses", "topics", "results", "groups", "resources", "filter_results")
_INNER: Final = ("partition_responses", "partitions")

NONE: Final = "NONE"


def outcome_of(response: object) -> str:
    """The name of an error code, NONE if there is no error."""
    if (name := _name(response)) != NONE:
        return name
    for attribute in _LISTS:
        for item in getattr(response, attribute, None) or ():
            if (name := _name(item)) != NONE:
                return name
            for inner in _INNER:
                for part in getattr(item, inner, None) or ():
                    if (name := _name(part)) != NONE:
                        return name
    return NONE


def _name(part: object) -> str:
    code = getattr(part, "error_code", ErrorCode.none)
    return NONE if not code else ErrorCode(code).name.upper()
