"""Files that are damaged, compressed, empty, or not ours."""

import json
from pathlib import Path

import cramjam
import pytest
from click.testing import CliRunner, Result

from broker.cli.main import walrus
from engine.format import new_meta, pack_head, pack_meta
from engine.records import Record, build


def run(*args: str) -> Result:
    return CliRunner().invoke(walrus, ["inspect", *args])


def rows(*args: str) -> list[dict[str, object]]:
    result = run("--json", *args)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def batch(base_offset: int, *values: bytes | None, codec: int = 0) -> bytes:
    return bytes(
        build(
            [Record(i, i, b"k", value, (("h", b"\xff"),)) for i, value in enumerate(values)],
            base_timestamp=1_700_000_000_000,
            base_offset=base_offset,
            leader_epoch=3,
            codec=codec,
            compress=(lambda data: bytes(cramjam.gzip.compress(data))) if codec else None,
        )
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "00000000000000000100.log"
    file.write_bytes(batch(100, b"one", None) + batch(102, b"\xfe", codec=1))
    return file


def test_batches_are_shown_with_their_place(log: Path) -> None:
    first, second = rows(str(log))
    assert (first["position"], first["base_offset"], first["last_offset"]) == (0, 100, 101)
    assert (first["record_count"], first["leader_epoch"], first["codec"]) == (2, 3, "none")
    assert (second["position"], second["codec"]) == (first["size"], "gzip")


def test_records_are_shown_whatever_their_codec(log: Path) -> None:
    first, second = rows("--records", str(log))
    assert first["records"] == [
        {
            "offset": 100,
            "timestamp": 1_700_000_000_000,
            "key": "k",
            "value": "one",
            "headers": [["h", {"base64": "/w=="}]],
        },
        {
            "offset": 101,
            "timestamp": 1_700_000_000_001,
            "key": "k",
            "value": None,
            "headers": [["h", {"base64": "/w=="}]],
        },
    ]
    assert '"value": {"base64": "/g=="}' in json.dumps(second["records"])


def test_text_is_for_people(log: Path) -> None:
    result = run("--records", str(log))
    assert "base_offset=100" in result.stdout
    assert "2023-11-14T22:13:20.000Z" in result.stdout
    assert 'value="one"' in result.stdout


def test_damage_is_shown_up_to_its_byte(log: Path) -> None:
    good = len(batch(100, b"one", None))
    data = bytearray(log.read_bytes())
    data[good + 70] ^= 1
    log.write_bytes(data)
    result = run(str(log))
    assert result.exit_code == 1
    assert "base_offset=100" in result.stdout
    assert f"corrupt at byte {good}" in result.stderr


@pytest.mark.parametrize("records", [(), ("--records",)])
def test_every_cut_is_survived(log: Path, records: tuple[str, ...]) -> None:
    data = log.read_bytes()
    for size in range(0, len(data), 7):
        log.write_bytes(data[:size])
        result = run(*records, str(log))
        assert result.exit_code in {0, 1}
        assert result.exception is None or isinstance(result.exception, SystemExit)


def test_zeros_behind_an_open_log_are_no_damage(log: Path) -> None:
    before = rows(str(log))
    log.write_bytes(log.read_bytes() + bytes(5000))
    assert rows(str(log)) == before


def test_an_empty_log_holds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "00000000000000000000.log"
    file.touch()
    assert rows(str(file)) == []


def test_indexes_meta_and_head_are_shown(tmp_path: Path) -> None:
    index = tmp_path / "00000000000000000100.index"
    index.write_bytes((5).to_bytes(4) + (4200).to_bytes(4))
    assert rows(str(index)) == [{"offset": 105, "position": 4200}]
    times = tmp_path / "00000000000000000100.timeindex"
    times.write_bytes((1_700_000_000_000).to_bytes(8) + (5).to_bytes(4))
    assert rows(str(times)) == [{"timestamp": 1_700_000_000_000, "offset": 105}]
    meta = tmp_path / "meta"
    meta.write_bytes(pack_meta(new_meta(100, 3)))
    (shown,) = rows(str(meta))
    assert (shown["state"], shown["base_offset"], shown["epoch"]) == ("OPEN", 100, 3)
    head = tmp_path / "head"
    head.write_bytes(pack_head(b"state"))
    assert rows(str(head)) == [{"head_size": 5, "content": "state"}]


@pytest.mark.parametrize("name", ["meta", "head", "0.index", "x.index", "notes.txt"])
def test_garbage_is_a_clear_error(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"garbage")
    result = run(str(file))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
