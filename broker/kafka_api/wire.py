"""Requests from bytes and responses to bytes, at whatever version the client speaks.

kio has one set of classes for each version of each API. Handlers do not want to know: they read a
request as if it were of the newest version served (with `getattr` and a default for what older
versions lack), and they build the newest response through a `Maker`, which leaves out what the
client's version does not have.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import timedelta
from functools import cache
from threading import Lock
from types import ModuleType
from typing import Any, Final

import anyio.to_thread
from kio.index import load_payload_module, load_request_schema, load_response_schema
from kio.schema.index import api_key_map, schema_name_map
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType
from kio.static.protocol import RequestPayload, ResponsePayload

from broker.errors import FrameError
from broker.kafka_api.skim import prepare_skim, skim

Request = RequestPayload
Response = ResponsePayload

NO_THROTTLE: Final = timedelta(0)
"""Clients delay their next request by what stands here, so it stays 0 while there are no quotas."""


class Maker:
    """The response classes of one API version: `make.PartitionData(partition_index=0, ...)`.

    Fields that this version lacks are left out, and a class that it lacks makes None.
    """

    def __init__(self, module: ModuleType, newest: ModuleType) -> None:
        for name in _entities(newest) | _entities(module):
            entity = getattr(module, name, None)
            setattr(self, name, _absent if entity is None else _narrow(entity))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"no version of this response has a {name}")


def _entities(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if is_dataclass(value) and getattr(value, "__module__", None) == module.__name__
    }


def _absent(**_: Any) -> None:
    return None


def _narrow(entity: Any) -> Callable[..., Any]:
    known = frozenset(item.name for item in fields(entity))
    has_throttle = "throttle_time" in known

    def make(**values: Any) -> Any:
        if has_throttle:
            values["throttle_time"] = NO_THROTTLE
        if values.keys() <= known:
            return entity(**values)
        return entity(**{name: value for name, value in values.items() if name in known})

    return make


class Codec:
    """Reads the requests and writes the responses of one API at one version."""

    def __init__(self, key: int, version: int) -> None:
        newest = max(schema_name_map[api_key_map[key]])
        self._request_type = load_request_schema(key, version)
        self._read = entity_reader(self._request_type)
        self.write: Callable[[Any, Response], None] = entity_writer(
            load_response_schema(key, version)
        )
        self.maker: Final = Maker(
            load_payload_module(key, version, EntityType.response),
            load_payload_module(key, newest, EntityType.response),
        )
        prepare_skim(self._request_type)

    def read(self, frame: memoryview, position: int) -> Request:
        """The request whose body starts at `position`. Raises FrameError, and nothing else."""
        body, position = skim(self._request_type, frame, position)
        try:
            request, _ = self._read(body, position)
        except Exception as error:
            raise FrameError(f"the request cannot be read: {error}") from error
        return request


@cache
def codec(key: int, version: int) -> Codec:
    """The codec of a version that kio knows. On the event loop, after `load` only."""
    return Codec(key, version)


LOADED: Final[set[tuple[int, int]]] = set()
"""The (key, version) pairs that `load` has seen."""


async def load(key: int, version: int) -> None:
    """Import and compile a codec: a file or two, 2 to 15 ms of CPU, 80 KB of memory.

    All versions together would double the time that a node takes to start, and its memory at rest,
    and no cluster ever sees most of them. One at a time: two threads that import modules of one
    package at once may each wait for the other, and the import system then fails one of them.
    """
    await anyio.to_thread.run_sync(_load, key, version)
    LOADED.add((key, version))


_spare = [os.open(os.devnull, os.O_RDONLY)]
"""A descriptor to give back: who is connected is served when connections have taken all others."""


_importing = Lock()


def _load(key: int, version: int) -> None:
    with _importing:
        _import(key, version)


def _import(key: int, version: int) -> None:
    try:
        codec(key, version)
    except OSError as error:
        if error.errno != errno.EMFILE or not _spare:
            raise
        os.close(_spare.pop())
        try:
            codec(key, version)
        finally:
            with suppress(OSError):
                _spare.append(os.open(os.devnull, os.O_RDONLY))


def maker(request: Request) -> Maker:
    """What to build the response to `request` with."""
    return codec(request.__api_key__, request.__version__).maker
