"""A map that shares structure (pure).

A change copies one bucket and the tuple of buckets, so that a state with thousands of topics costs
a few hundred bytes to change, and an old view stays what it was for as long as anybody holds it.
Two levels are enough for the sizes metadata has (up to 100,000 keys); a deeper tree would only be
slower.
"""

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from itertools import chain
from typing import Any, Final, Self, TypeVar
from zlib import crc32

K = TypeVar("K", bound=bytes | str | int)
V = TypeVar("V")

_BUCKET_COUNT = 256

_NOTHING: Final = object()
"""Stands for a key that is not there."""


def _bucket_of(key: bytes | str | int) -> int:
    """Not `hash()`: it differs from process to process, and the order of iteration with it."""
    if isinstance(key, int):
        return key % _BUCKET_COUNT
    return crc32(key if isinstance(key, bytes) else key.encode()) % _BUCKET_COUNT


class _Values(ValuesView[V]):
    """Walked without looking each key up again, and no step of it in Python."""

    _mapping: "PMap[Any, V]"

    def __iter__(self) -> Iterator[V]:
        return chain.from_iterable(map(dict.values, filter(None, self._mapping._buckets)))


class _Items(ItemsView[K, V]):
    """As `_Values`."""

    _mapping: "PMap[K, V]"

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return chain.from_iterable(map(dict.items, filter(None, self._mapping._buckets)))


class PMap(Mapping[K, V]):
    """An immutable mapping; `set` and `remove` answer a changed one in constant time (amortised
    over 256 buckets)."""

    __slots__ = ("_buckets", "_count")

    _buckets: tuple[dict[K, V], ...]
    _count: int

    def __init__(self, items: Iterable[tuple[K, V]] = ()) -> None:
        buckets: list[dict[K, V]] = [{} for _ in range(_BUCKET_COUNT)]
        for key, value in items:
            buckets[_bucket_of(key)][key] = value
        self._buckets = tuple(buckets)
        self._count = sum(map(len, buckets))

    def __getitem__(self, key: K) -> V:
        return self._buckets[_bucket_of(key)][key]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes | str | int) and key in self._buckets[_bucket_of(key)]

    def __iter__(self) -> Iterator[K]:
        return chain.from_iterable(self._buckets)

    def values(self) -> ValuesView[V]:
        return _Values(self)

    def items(self) -> ItemsView[K, V]:
        return _Items(self)

    def changed_since(self, before: Self) -> list[K]:
        """Keys that are new, gone, or of another value (by identity) than in `before`.

        What both share is not looked at: a few changes among thousands of keys cost a comparison of
        256 references and the keys of the buckets concerned.
        """
        keys: list[K] = []
        for old, new in zip(before._buckets, self._buckets, strict=True):
            if old is not new:
                keys += [
                    key
                    for key in {**old, **new}
                    if old.get(key, _NOTHING) is not new.get(key, _NOTHING)
                ]
        return keys

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"PMap({dict(self)!r})"

    def set(self, key: K, value: V) -> Self:
        """A map that also holds `key: value`."""
        return self._with(key, {**self._buckets[_bucket_of(key)], key: value})

    def remove(self, key: K) -> Self:
        """A map without `key`. Raises KeyError if there is none."""
        bucket = self._buckets[_bucket_of(key)].copy()
        del bucket[key]
        return self._with(key, bucket)

    def _with(self, key: K, bucket: dict[K, V]) -> Self:
        at = _bucket_of(key)
        changed = object.__new__(type(self))
        changed._buckets = (*self._buckets[:at], bucket, *self._buckets[at + 1 :])
        changed._count = self._count - len(self._buckets[at]) + len(bucket)
        return changed
