"""A walk over a request body before the native parser sees it: every length and count must fit the
frame.

kio's parser allocates an array by the count that the peer *announces*. One small frame that
announces 2^32 elements would abort the whole process, so the counts are checked here first, by a
walk that allocates nothing. The walk is compiled once per request type from kio's own field
descriptions; it costs microseconds per request and does not look at records.
"""

from collections.abc import Callable, Hashable
from dataclasses import Field, fields, is_dataclass
from functools import cache
from struct import Struct
from struct import error as StructError
from types import NoneType, UnionType
from typing import Any, Final, cast, get_args, get_origin

from broker.errors import FrameError

ELEMENT_COUNT_MAX: Final = 50_000
"""Array elements of one request, all arrays together. Kafka has no such limit; a client that
fetches from every topic of a large cluster stays far below it, and each element costs us a Python
object."""

_I16: Final = Struct(">h")
_I32: Final = Struct(">i")

_FIXED_SIZE: Final = {
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint16": 2,
    "uint32": 4,
    "float64": 8,
    "bool": 1,
    "uuid": 16,
    "error_code": 2,
    "timedelta_i32": 4,
    "timedelta_i64": 8,
    "datetime_i64": 8,
}


class _Scan:
    """One walk: the bytes, and how many array elements may still come."""

    __slots__ = ("data", "edits", "elements_left", "size")

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.size = len(data)
        self.elements_left = ELEMENT_COUNT_MAX
        self.edits: list[tuple[int, int, bytes]] = []
        """(start, end, what to put there instead), in order: tagged fields kio must not see."""


Step = Callable[[_Scan, int], int]
"""Given a position, the position after one field. May run past the end: the walk checks that
last."""


def skim(request_type: type[Any], frame: memoryview, position: int) -> tuple[memoryview, int]:
    """Check that a whole body of `request_type` starts at `position`.

    Bytes after its end are ignored, as Kafka ignores them: librdkafka asks for the metadata of all
    topics with a count of the wrong width, and only so is it understood.

    Answers the bytes and the position to parse from: the same ones, unless the body has tagged
    fields that `request_type` does not know. Those are to be ignored (KIP-482), and kio would
    refuse them, so they are cut out. Raises FrameError.
    """
    walk, _ = _compiled(cast(Hashable, request_type))
    scan = _Scan(frame)
    try:
        end = walk(scan, position)
    except (StructError, IndexError):
        raise FrameError("the request ends in the middle of a field") from None
    if end > len(frame):
        raise FrameError("the request ends in the middle of a field")
    return (memoryview(_edited(scan, position)), 0) if scan.edits else (frame, position)


def _edited(scan: _Scan, position: int) -> bytes:
    out = bytearray()
    for start, end, instead in scan.edits:
        out += scan.data[position:start]
        out += instead
        position = end
    return bytes(out + scan.data[position:])


def prepare_skim(request_type: type[Any]) -> None:
    """Compile the walk of a request type now rather than at its first request."""
    _compiled(cast(Hashable, request_type))


@cache
def _compiled(entity_type: Hashable) -> tuple[Step, int]:
    """The walk over one entity, and the smallest number of bytes it can have."""
    entity: Any = entity_type
    flexible: bool = entity.__flexible__
    steps: list[Step] = []
    size_min = fixed_run = 0
    known_tags: set[int] = set()
    for item in fields(entity):
        if "tag" in item.metadata:
            _check_tagged(item)
            known_tags.add(item.metadata["tag"])
            continue
        step, size = _field(item, flexible)
        size_min += size
        if step is None:
            fixed_run += size
            continue
        if fixed_run:
            steps.append(_skip(fixed_run))
            fixed_run = 0
        steps.append(step)
    if fixed_run:
        steps.append(_skip(fixed_run))
    if flexible:
        steps.append(_tags(frozenset(known_tags)))
        size_min += 1
    return _sequence(tuple(steps)), size_min


def _check_tagged(item: Field[Any]) -> None:
    # A tagged field is skipped by its size, so an array inside one would go unchecked.
    if _is_array(item):
        raise TypeError(f"tagged array {item.name} in a request: the walk must learn to enter it")


def _is_array(item: Field[Any]) -> bool:
    return get_origin(_without_none(item.type)) is tuple


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) is UnionType:
        (annotation,) = (one for one in get_args(annotation) if one is not NoneType)
    return annotation


def _field(item: Field[Any], flexible: bool) -> tuple[Step | None, int]:
    """Step and smallest size of one field; no step for a field whose size is fixed."""
    annotation = _without_none(item.type)
    is_nullable = annotation is not item.type
    if get_origin(annotation) is tuple:
        element = get_args(annotation)[0]
        if is_dataclass(element):
            step, size_min = _compiled(cast(Hashable, element))
        else:
            fixed, size_min = _primitive(item.metadata["kafka_type"], flexible)
            step = _skip(size_min) if fixed is None else fixed
        return _array(step, size_min, flexible, is_nullable), 1 if flexible else 4
    if is_dataclass(annotation):
        raise TypeError(f"nested entity {item.name} in a request: the walk must learn to enter it")
    return _primitive(item.metadata["kafka_type"], flexible)


def _primitive(kafka_type: str, flexible: bool) -> tuple[Step | None, int]:
    size = _FIXED_SIZE.get(kafka_type)
    if size is not None:
        return None, size
    if flexible:
        return _compact_bytes, 1
    if kafka_type == "string":
        return _short_bytes, 2
    return _long_bytes, 4  # "bytes" and "records"


def _sequence(steps: tuple[Step, ...]) -> Step:
    if len(steps) == 1:
        return steps[0]

    def walk(scan: _Scan, position: int) -> int:
        for step in steps:
            position = step(scan, position)
        return position

    return walk


def _skip(size: int) -> Step:
    return lambda scan, position: position + size


def _short_bytes(scan: _Scan, position: int) -> int:
    size: int = _I16.unpack_from(scan.data, position)[0]
    return position + 2 + max(size, 0)


def _long_bytes(scan: _Scan, position: int) -> int:
    size: int = _I32.unpack_from(scan.data, position)[0]
    return position + 4 + max(size, 0)


def _compact_bytes(scan: _Scan, position: int) -> int:
    size_plus_one, position = uvarint(scan.data, position)
    return position + max(size_plus_one - 1, 0)


def _array(element: Step, element_size_min: int, flexible: bool, is_nullable: bool) -> Step:
    count_min = -1 if is_nullable else 0

    def walk(scan: _Scan, position: int) -> int:
        if flexible:
            count_plus_one, position = uvarint(scan.data, position)
            count = count_plus_one - 1
        else:
            (count,) = _I32.unpack_from(scan.data, position)
            position += 4
        if count < count_min:
            raise FrameError(f"an array of {count} elements")
        if count * element_size_min > scan.size - position:
            left = max(scan.size - position, 0)
            raise FrameError(f"an array of {count} elements in {left} bytes")
        scan.elements_left -= max(count, 0)
        if scan.elements_left < 0:
            raise FrameError(f"more than {ELEMENT_COUNT_MAX} array elements in one request")
        for _ in range(count):
            position = element(scan, position)
        return position

    return walk


def _tags(known: frozenset[int]) -> Step:
    def walk(scan: _Scan, position: int) -> int:
        if scan.data[position] == 0:
            return position + 1
        start = position
        count, position = uvarint(scan.data, position)
        if count > (scan.size - position) // 2:
            left = max(scan.size - position, 0)
            raise FrameError(f"{count} tagged fields in {left} bytes")
        scan.elements_left -= count
        if scan.elements_left < 0:
            raise FrameError(f"more than {ELEMENT_COUNT_MAX} tagged fields in one request")
        kept: dict[int, bytes] = {}
        for _ in range(count):
            field_start = position
            tag, position = uvarint(scan.data, position)
            size, position = uvarint(scan.data, position)
            position += size
            if tag in known:
                kept[tag] = bytes(scan.data[field_start:position])
        if len(kept) < count:
            scan.edits.append((start, position, bytes([len(kept)]) + b"".join(kept.values())))
        return position

    return walk


def uvarint(data: memoryview, position: int) -> tuple[int, int]:
    """An unsigned varint of at most five bytes, and the position after it. Raises FrameError,
    IndexError."""
    value = data[position]
    if value < 0x80:
        return value, position + 1
    value &= 0x7F
    for shift in (7, 14, 21, 28):
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
    raise FrameError("a variable-length number has more than five bytes")
