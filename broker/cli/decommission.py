"""`walrus cluster decommission NODE`: take a node out for good, and watch it go.

The cluster does the work, whether anybody watches or not; the command can be given again, and only
shows how far it is.
"""

import time
from typing import Any

import click

from broker.cli.admin_client import AdminError, address_option, fail, get, post

POLL_S = 1.0

PATIENCE_COUNT = 15
"""Questions without an answer before the watching ends: the asked node may be the one that goes."""


@click.command()
@click.argument("node", type=click.IntRange(min=0))
@address_option
@click.option("--cancel", is_flag=True, help="Let the node stay after all.")
@click.option("--no-wait", is_flag=True, help="Begin, and do not watch.")
def decommission(node: int, addr: str, cancel: bool, no_wait: bool) -> None:
    """Take NODE out of the cluster for good, alive or dead.

    Its leadership and its copies move to the other nodes; when none of them is needed there any
    more, it loses its vote and stops by itself. Ctrl-C only ends the watching: the same command
    goes on with it, and --cancel takes it back.
    """
    try:
        post(addr, f"/v1/nodes/{node}/{'recommission' if cancel else 'decommission'}")
    except AdminError as error:
        fail(error)
    if cancel:
        click.echo(f"Node {node} stays.")
    elif no_wait:
        click.echo(f"Node {node} is leaving; see how far it is with `walrus cluster status`.")
    else:
        _watch(node, addr)


def _watch(node: int, addr: str) -> None:
    said, failures = "", 0
    while True:
        try:
            found = get(addr, "/v1/cluster")
        except AdminError as error:
            failures += 1
            if failures >= PATIENCE_COUNT:
                fail(error)
        else:
            failures = 0
            line = progress(found, node)
            if line != said:
                click.echo(line)
            said = line
            if not any(one["node_id"] == node for one in found["nodes"]):
                return
        time.sleep(POLL_S)


def progress(found: Any, node: int) -> str:
    """How far it is, in words."""
    row = next((one for one in found["nodes"] if one["node_id"] == node), None)
    if row is None:
        return f"Node {node} is out. Its data directory is of no use any more."
    if not row["is_leaving"]:
        return f"Node {node} stays: somebody has taken it back."
    unsealed, sealed = row["remaining"]["unsealed"], row["remaining"]["sealed"]
    if unsealed or sealed:
        return (
            f"Node {node} is leaving: {unsealed} topics are written with a copy there,"
            f" {sealed} closed segments have too few copies elsewhere."
        )
    return f"Node {node} is leaving: nothing needs it any more; it is being taken out."
