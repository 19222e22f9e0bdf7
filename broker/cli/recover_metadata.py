"""`walrus recover-metadata`: one node's metadata becomes a cluster of its own, when most of the
metadata's disks are lost for good."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from broker.controller.metadata_recovery import MetadataRecovery, Stake


@click.command("recover-metadata")
@click.option(
    "--data-dir",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Of the node that is left, which must be stopped.",
)
@click.option("--force", default="", metavar="CLUSTER", help="The lost cluster's id once more.")
def recover_metadata(data_dir: Path, force: str) -> None:
    """Go on with the node of --data-dir alone, when a majority of the disks that keep the metadata
    is lost for good.

    The node becomes a cluster of its own, under a new id: lost disks that turn up later are
    refused, and all other nodes join with empty ones. Without --force it only says what is at
    stake. Of several nodes that are left, recover the one whose metadata goes furthest.
    """
    from broker.controller.data_dir import DataDir, DataDirError, new_cluster_id, read_identity
    from broker.controller.metadata_recovery import MetadataRecovery

    try:
        data = DataDir(data_dir, node_id=read_identity(data_dir).node_id)
        try:
            found = MetadataRecovery(data)
            for line in _report(found):
                click.echo(line)
            if force and force != found.cluster_id:
                raise click.ClickException(
                    f"{data_dir} is of cluster {found.cluster_id}, not of {force}: nothing changed"
                )
            if not force:
                click.echo(f"\nNothing is changed. To do it, add: --force {found.cluster_id}")
                return
            cluster_id = new_cluster_id()
            found.recover(cluster_id)
        finally:
            data.release()
    except (DataDirError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"\nNode {found.node} is the first of cluster {cluster_id}. The files as they were are in"
        f" {found.backup}.\nStart it as before, then the other nodes with empty data directories,"
        " their old --node-id and --join."
    )


def _report(found: "MetadataRecovery") -> Iterator[str]:
    stored, state = found.stored, found.stored.state
    written_at = datetime.fromtimestamp(found.written_at, UTC).isoformat(" ", "seconds")
    uncertain = stored.index - stored.commit_index
    yield f"Node {found.node} of cluster {found.cluster_id}"
    yield (
        f"  metadata   up to entry {stored.index} of term {stored.last_term}, written last at"
        f" {written_at}"
    )
    yield f"             {_uncommitted(uncertain)}"
    yield f"  voters     {len(stored.members.voters)}, of which this node is to be the only one"
    for node, broker in sorted(state.brokers.items()):
        if node != found.node:
            yield f"  gone       node {node} at {broker.raft_host}:{broker.raft_port}, and its disk"
    stakes = found.stakes()
    yield f"  topics     {len(stakes)}"
    for stake in stakes:
        yield from (f"    {line}" for line in _of_topic(stake, found.node))


def _uncommitted(count: int) -> str:
    if not count:
        return "all of it is known to be committed"
    return f"the last {count} entries are not known to be committed here, and are taken over"


def _of_topic(stake: "Stake", node: int) -> Iterator[str]:
    where = f"{stake.name}: segment {stake.sid}, from offset {stake.base_offset} on,"
    nodes = ", ".join(map(str, stake.replicas))
    if not stake.needs_a_decision:
        yield f"{where} goes on by itself; nothing that was acknowledged is lost"
    elif node in stake.replicas:
        yield (
            f"{where} was on nodes {nodes}; {stake.size} bytes of it are here, and there may have"
            f" been more: to go on, `walrus cluster unclean-seal {stake.name}`"
        )
    else:
        yield (
            f"{where} was on nodes {nodes}, and is lost: to go on without, start a node with one of"
            f" these ids, and if need be `walrus cluster unclean-seal {stake.name}`"
        )
    if stake.dropped_count:
        yield f"  {stake.dropped_count} later segments, of which nothing is here, are given up"
    for base_offset, end_offset in stake.lost:
        yield f"  offsets {base_offset} to {end_offset - 1}: not whole here, and nowhere else"
