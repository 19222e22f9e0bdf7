"""DescribeLogDirs, v1-v4.

Behaviour
  * One directory: that of this node. For each topic with a copy here, the bytes of its records, and
    how many offsets the copy lacks. Other nodes' copies are asked of them.
  * A follower's lag is told against the segments that are closed: only the leader knows more.
  * Size and free bytes of the file system (v4+) are -1 when they cannot be told.
Versions
  v2 flexible · v3 a top-level error (KIP-405) · v4 size of the file system (KIP-827)
Not here
  several directories, moving copies between them, v5 (cordoned directories)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from broker.kafka_api.context import Context
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import Maker, maker
from broker.ports import LogDir, StoredLog

if TYPE_CHECKING:
    from kio.schema.describe_log_dirs.v4.request import DescribeLogDirsRequest


async def begin(ctx: Context, request: DescribeLogDirsRequest) -> Finish:
    """Describe the directory as it is now."""
    found = await ctx.controller.log_dir()
    make = maker(request)
    asked: dict[str, tuple[int, ...]] | None = None
    if request.topics is not None:
        asked = {topic.topic: tuple(topic.partitions) for topic in request.topics}
    topics = tuple(_topic(make, log) for log in found.logs if _is_asked(log, asked))
    return ready(_response(make, ErrorCode.none, (_result(make, found, topics),)))


def failed(ctx: Context, request: DescribeLogDirsRequest, code: ErrorCode) -> Response:
    """No directory, or (before v3) one without a name that says why."""
    make = maker(request)
    nameless = LogDir("", -1, -1, ())
    results = (_result(make, nameless, (), code),) if request.__version__ < 3 else ()
    return _response(make, code, results)


def _is_asked(log: StoredLog, asked: Mapping[str, tuple[int, ...]] | None) -> bool:
    return asked is None or 0 in asked.get(log.topic, ())


def _topic(make: Maker, log: StoredLog) -> object:
    partition = make.DescribeLogDirsPartition(
        partition_index=0,
        partition_size=log.size,
        offset_lag=log.offset_lag,
        is_future_key=False,
    )
    return make.DescribeLogDirsTopic(name=log.topic, partitions=(partition,))


def _result(
    make: Maker, found: LogDir, topics: tuple[object, ...], code: ErrorCode = ErrorCode.none
) -> object:
    return make.DescribeLogDirsResult(
        error_code=code,
        log_dir=found.path,
        topics=topics,
        total_bytes=found.size,
        usable_bytes=found.free_size,
    )


def _response(make: Maker, code: ErrorCode, results: tuple[object, ...]) -> Response:
    response: Response = make.DescribeLogDirsResponse(error_code=code, results=results)
    return response
