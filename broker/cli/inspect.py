"""`walrus inspect`: what a stored file holds, read by the code that wrote it. Changes nothing.

A log file that is damaged is shown up to the damage; then the byte position is named and the exit
code is 1. Zeros behind the last batch are room for more. Kafka's own
`kafka-dump-log` reads the same `.log`, `.index` and `.timeindex` files.
"""

import json
import mmap
import struct
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from broker.codecs import records_section
from broker.errors import BrokerError
from engine.batch import BatchHeader, check_batch, parse_header
from engine.errors import CorruptBatchError, EngineError
from engine.format import HEAD_NAME, META_NAME, unpack_head, unpack_meta
from engine.records import iter_records
from engine.recovery import is_zeros

Row = dict[str, Any]

# Kafka's layout of the two indexes, drawn in engine/index.py.
OFFSET_ENTRY = struct.Struct(">ii")
TIME_ENTRY = struct.Struct(">qi")

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

TEXT_SIZE_MAX = 120
"""Bytes of a key or value that a line of text shows; JSON shows all."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--records", is_flag=True, help="Show the records of each batch too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def inspect(file: Path, records: bool, as_json: bool) -> None:
    """Show what FILE holds: a segment's .log, .index, .timeindex, meta or head."""
    show = _as_json if as_json else _as_text
    try:
        for row in _rows(file, with_records=records):
            click.echo(show(row))
    except (EngineError, BrokerError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error


def _rows(file: Path, *, with_records: bool) -> Iterator[Row]:
    if file.suffix == ".log":
        return _batches(file, with_records=with_records)
    if file.suffix == ".index":
        base_offset = _base_offset(file)
        entries = OFFSET_ENTRY.iter_unpack(_whole(file, OFFSET_ENTRY.size))
        return ({"offset": base_offset + offset, "position": at} for offset, at in entries)
    if file.suffix == ".timeindex":
        base_offset = _base_offset(file)
        entries = TIME_ENTRY.iter_unpack(_whole(file, TIME_ENTRY.size))
        return ({"timestamp": at, "offset": base_offset + offset} for at, offset in entries)
    if file.name == META_NAME:
        return _meta(file)
    if file.name == HEAD_NAME:
        content = unpack_head(file.read_bytes())
        return iter([{"head_size": len(content), "content": _text_or_base64(content)}])
    names = f".log, .index, .timeindex, {META_NAME} or {HEAD_NAME}"
    raise click.ClickException(f"{file}: no file that a segment has ({names})")


def _batches(file: Path, *, with_records: bool) -> Iterator[Row]:
    with file.open("rb") as handle:
        if not file.stat().st_size:
            return
        # A log file may be larger than memory; a map of it is not in memory until it is read.
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            try:
                yield from _walk(file, view, with_records=with_records)
            finally:
                view.release()


def _walk(file: Path, view: memoryview, *, with_records: bool) -> Iterator[Row]:
    position = 0
    while position < len(view):
        try:
            header = parse_header(view, position)
            check_batch(view, header, position)
        except CorruptBatchError as error:
            if is_zeros(lambda start, size: bytes(view[start : start + size]), position, len(view)):
                return
            raise EngineError(f"{file}: corrupt at byte {position}: {error.reason}") from error
        row = _batch_row(header, position)
        if with_records:
            with view[position : position + header.size] as batch:
                row["records"] = _record_rows(batch, header)
        yield row
        position += header.size


def _batch_row(header: BatchHeader, position: int) -> Row:
    return {
        "position": position,
        "size": header.size,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "record_count": header.record_count,
        "leader_epoch": header.leader_epoch,
        "codec": CODECS[header.codec] if header.codec < len(CODECS) else header.codec,
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "timestamp_type": "LogAppendTime" if header.is_log_append_time else "CreateTime",
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "is_transactional": header.is_transactional,
        "is_control": header.is_control,
        "crc": f"{header.crc:08x}",
    }


def _record_rows(batch: memoryview, header: BatchHeader) -> list[Row]:
    rows = []
    for record in iter_records(records_section(batch, header), header.record_count):
        timestamp = header.base_timestamp + record.timestamp_delta
        rows.append(
            {
                "offset": header.base_offset + record.offset_delta,
                "timestamp": header.max_timestamp if header.is_log_append_time else timestamp,
                "key": _text_or_base64(record.key),
                "value": _text_or_base64(record.value),
                "headers": [[key, _text_or_base64(value)] for key, value in record.headers],
            }
        )
    return rows


def _meta(file: Path) -> Iterator[Row]:
    meta, slot = unpack_meta(file.read_bytes())
    yield {
        "slot": slot,
        "counter": meta.counter,
        "state": meta.state.name,
        "base_offset": meta.base_offset,
        "epoch": meta.epoch,
        "promised_epoch": meta.promised_epoch,
        "sealed_end": meta.sealed_end,
        "sealed_size": meta.sealed_size,
        "digest": f"{meta.digest:08x}",
        "max_timestamp": meta.max_timestamp,
        "ack_mark": meta.ack_mark,
    }


def _base_offset(file: Path) -> int:
    if not file.stem.isdigit():
        raise click.ClickException(f"{file}: the name does not start with the base offset")
    return int(file.stem)


def _whole(file: Path, entry_size: int) -> bytes:
    data = file.read_bytes()
    if len(data) % entry_size:
        raise EngineError(f"{file}: {len(data)} bytes are no whole number of entries")
    return data


# ---- how it is shown ---------------------------------------------------------------------------


def _text_or_base64(data: bytes | None) -> object:
    """Text where it is text; other bytes as {"base64": …}, so that JSON loses nothing."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}


def _as_json(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


def _as_text(row: Row) -> str:
    records = row.pop("records", [])
    lines = ["  ".join(f"{name}={_value(name, value)}" for name, value in row.items())]
    lines += [f"    {_as_text(record)}" for record in records]
    return "\n".join(lines)


def _value(name: str, value: object) -> str:
    if name.endswith("timestamp") and isinstance(value, int) and value >= 0:
        try:
            moment = datetime.fromtimestamp(value / 1000, UTC)
        except (ValueError, OverflowError):
            return str(value)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, str) and name in {"key", "value", "content"}:
        shown = json.dumps(value, ensure_ascii=False)
        return shown if len(shown) <= TEXT_SIZE_MAX else f"{shown[:TEXT_SIZE_MAX]}… ({len(value)})"
    return json.dumps(value) if isinstance(value, list | dict) else str(value)
