"""An operator's last resort, taken by mistake or on the wrong disk."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli.main import walrus
from broker.controller.data_dir import DataDir, read_identity
from tests.broker.survivors import OLD_CLUSTER, make_survivor


def run(path: Path, *flags: str) -> Result:
    return CliRunner().invoke(walrus, ["recover-metadata", "--data-dir", str(path), *flags])


@pytest.fixture
def survivor(tmp_path: Path) -> Path:
    make_survivor(tmp_path, sizes={1: 1000, 2: 400})
    return tmp_path


def test_without_the_clusters_name_it_only_says_what_is_at_stake(survivor: Path) -> None:
    before = {path: path.read_bytes() for path in survivor.rglob("*") if path.is_file()}
    result = run(survivor)
    assert result.exit_code == 0, result.output
    for text in (
        f"Node 3 of cluster {OLD_CLUSTER}",
        "the last 1 entries are not known to be committed",
        "gone       node 2 at 127.0.0.1:6002",
        "t: segment 2, from offset 10 on, was on nodes 1, 2, 3; 400 bytes",
        "1 later segments, of which nothing is here, are given up",
        "t2: segment 1, from offset 0 on, was on nodes 2, and is lost",
        "t3: segment 1, from offset 0 on, goes on by itself",
        f"--force {OLD_CLUSTER}",
    ):
        assert text in result.output
    after = {path: path.read_bytes() for path in survivor.rglob("*") if path.is_file()}
    del before[survivor / "lock"], after[survivor / "lock"]
    assert after == before


def test_another_clusters_name_changes_nothing(survivor: Path) -> None:
    result = run(survivor, "--force", "other")
    assert result.exit_code == 1
    assert f"is of cluster {OLD_CLUSTER}, not of other: nothing changed" in result.output
    assert read_identity(survivor).cluster_id == OLD_CLUSTER


def test_with_it_the_node_begins_a_new_cluster(survivor: Path) -> None:
    result = run(survivor, "--force", OLD_CLUSTER)
    assert result.exit_code == 0, result.output
    cluster_id = read_identity(survivor).cluster_id
    assert cluster_id not in ("", OLD_CLUSTER)
    assert f"Node 3 is the first of cluster {cluster_id}" in result.output
    assert f"before-recovery-{OLD_CLUSTER}" in result.output
    again = run(survivor, "--force", OLD_CLUSTER)
    assert again.exit_code == 1
    assert "nothing to recover" in again.output


def test_a_running_node_keeps_its_metadata(survivor: Path) -> None:
    data = DataDir(survivor, node_id=3)
    result = run(survivor, "--force", OLD_CLUSTER)
    data.release()
    assert result.exit_code == 1
    assert "in use by another process" in result.output
    assert read_identity(survivor).cluster_id == OLD_CLUSTER


def test_a_folder_that_is_no_data_directory_stays_as_it_is(tmp_path: Path) -> None:
    result = run(tmp_path, "--force", OLD_CLUSTER)
    assert result.exit_code == 1
    assert "identity is not readable" in result.output
    assert not list(tmp_path.iterdir())
