"""How messages are written down for the tests: fields, and bytes from and to them."""

import struct
from dataclasses import dataclass
from typing import Any
from uuid import UUID

FOREVER = 99
ZERO_ID = UUID(int=0)


@dataclass(frozen=True)
class F:
    """One field, present in versions `since` to `until`.

    `type` is one of i8 i16 i32 i64 bool str nstr bytes uuid, or `[type` for an array of it, or a
    tuple of fields for an array of structures. A trailing `?` on an array's name allows null. A
    field with a `tag` is optional and stands at the end (KIP-482); `is_one` makes the tuple a
    single structure.
    """

    name: str
    type: str | tuple["F", ...]
    since: int = 0
    until: int = FOREVER
    default: Any = None
    tag: int | None = None
    is_one: bool = False

    @property
    def key(self) -> str:
        return self.name.rstrip("?")


Layout = tuple[F, ...]

_NUMBERS = {"i8": "b", "i16": "h", "i32": "i", "i64": "q", "bool": "?"}
_DEFAULTS: dict[str, Any] = {
    "i8": 0, "i16": 0, "i32": 0, "i64": 0, "bool": False,
    "str": "", "nstr": None, "bytes": b"", "uuid": ZERO_ID,
}  # fmt: skip


class Writer:
    def __init__(self, version: int, flexible: bool) -> None:
        self.version, self.flexible, self.out = version, flexible, bytearray()

    def struct(self, layout: Layout, values: dict[str, Any]) -> None:
        unknown = values.keys() - {field.key for field in layout}
        assert not unknown, f"no field {unknown}"
        for field in layout:
            if field.tag is None and field.since <= self.version <= field.until:
                self.field(field, values.get(field.key, field.default))
        if self.flexible:
            self.out.append(0)

    def field(self, field: F, value: Any) -> None:
        if isinstance(field.type, tuple):
            self.array(value, lambda item: self.struct(field.type, item), "?" in field.name)
        elif field.type.startswith("["):
            self.array(value, lambda item: self.primitive(field.type[1:], item), "?" in field.name)
        else:
            self.primitive(field.type, _DEFAULTS[field.type] if value is None else value)

    def array(self, items: Any, write: Any, nullable: bool) -> None:
        if items is None and not nullable:
            items = ()
        self.length(-1 if items is None else len(items), ">i")
        for item in items or ():
            write(item)

    def length(self, count: int, legacy: str) -> None:
        if self.flexible:
            self.uvarint(count + 1)
        else:
            self.out += struct.pack(legacy, count)

    def uvarint(self, value: int) -> None:
        while value >= 0x80:
            self.out.append(value & 0x7F | 0x80)
            value >>= 7
        self.out.append(value)

    def primitive(self, type_: str, value: Any) -> None:
        if type_ in _NUMBERS:
            self.out += struct.pack(">" + _NUMBERS[type_], value)
        elif type_ == "uuid":
            self.out += value.bytes
        elif value is None:
            self.length(-1, ">i" if type_ == "bytes" else ">h")
        else:
            data = value.encode() if isinstance(value, str) else value
            self.length(len(data), ">i" if type_ == "bytes" else ">h")
            self.out += data


class Reader:
    def __init__(self, data: bytes, version: int, flexible: bool) -> None:
        self.data, self.version, self.flexible, self.position = data, version, flexible, 0

    def take(self, size: int) -> bytes:
        piece = self.data[self.position : self.position + size]
        assert len(piece) == size, "the response ends early"
        self.position += size
        return piece

    def number(self, code: str) -> Any:
        return struct.unpack(">" + code, self.take(struct.calcsize(code)))[0]

    def uvarint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def length(self, legacy: str) -> int:
        return self.uvarint() - 1 if self.flexible else self.number(legacy)

    def tags(self, layout: Layout = ()) -> dict[str, Any]:
        known = {field.tag: field for field in layout if field.tag is not None}
        values = {}
        for _ in range(self.uvarint()):
            field, size = known.get(self.uvarint()), self.uvarint()
            assert field is not None, "a tagged field that nobody asked for"
            assert field.since <= self.version, f"{field.key} in a version without it"
            end = self.position + size
            values[field.key] = self.field(field)
            assert self.position == end, f"{field.key} is not of the size that was told"
        return values

    def struct(self, layout: Layout) -> dict[str, Any]:
        values = {}
        for field in layout:
            if field.tag is None and field.since <= self.version <= field.until:
                values[field.key] = self.field(field)
        return values | self.tags(layout) if self.flexible else values

    def field(self, field: F) -> Any:
        if isinstance(field.type, tuple):
            layout = field.type
            if field.is_one:
                return self.struct(layout)
            return self.array(lambda: self.struct(layout))
        if field.type.startswith("["):
            type_ = field.type[1:]
            return self.array(lambda: self.primitive(type_))
        return self.primitive(field.type)

    def array(self, read: Any) -> Any:
        count = self.length("i")
        return None if count == -1 else [read() for _ in range(count)]

    def primitive(self, type_: str) -> Any:
        if type_ in _NUMBERS:
            return self.number(_NUMBERS[type_])
        if type_ == "uuid":
            return UUID(bytes=self.take(16))
        size = self.length("i" if type_ == "bytes" else "h")
        if size == -1:
            assert type_ != "str", "null where null is not allowed"
            return None
        data = self.take(size)
        return data if type_ == "bytes" else data.decode()


@dataclass(frozen=True)
class Message:
    """One API: its key, first flexible version, and both layouts."""

    key: int
    versions: tuple[int, int]
    first_flexible: int
    request: Layout
    response: Layout
