"""`walrus cluster`: who is in it, who leads and holds what, in words and as JSON."""

import json
from typing import Any

import click

from broker.cli.admin_client import AdminError, address_option, fail, get
from broker.cli.decommission import decommission
from broker.cli.drop_surplus import drop_surplus
from broker.cli.forget import forget
from broker.cli.shapes import table
from broker.cli.unclean_seal import unclean_seal

NODE_HEADER = ("NODE", "STATE", "RAFT", "LEADS", "PEER", "LISTENERS")
TOPIC_HEADER = ("TOPIC", "LEADER", "EPOCH", "SEGMENTS", "REPLICAS", "LIVE", "UNDER-REPL.", "LAG")


@click.group()
def cluster() -> None:
    """Show what a cluster looks like, and change who belongs to it."""


cluster.add_command(decommission)
cluster.add_command(drop_surplus)
cluster.add_command(forget)
cluster.add_command(unclean_seal)


@cluster.command()
@address_option
@click.option("--json", "as_json", is_flag=True, help="Everything, segment by segment, as JSON.")
@click.option("--timeout", "timeout_s", default=10.0, show_default=True, metavar="SECONDS")
def status(addr: str, as_json: bool, timeout_s: float) -> None:
    """Show nodes and topics as the asked node sees them.

    A topic's lag is known to its leader alone, which is asked; "?" when it does not answer. Exit
    code 1 when nobody answers, 0 otherwise, however the cluster is.
    """
    try:
        found = get(addr, "/v1/cluster", timeout_s)
    except AdminError as error:
        fail(error)
    click.echo(json.dumps(found, indent=2) if as_json else in_words(found))


def in_words(found: Any) -> str:
    """What `/v1/cluster` answered, as tables for a person."""
    nodes, topics = found["nodes"], found["topics"]
    alive_count = sum(node["is_alive"] for node in nodes)
    leader = found["raft_leader"]
    says = f"Raft is led by node {leader}" if leader is not None else "Raft has no leader"
    under = sum(topic["under_replicated_segments"] for topic in topics)
    health = f"{under} under-replicated segments" if under else "every segment has all its copies"
    summary = f"{alive_count} of {len(nodes)} nodes alive; {says}; {health}"
    asked = f"(Node {found['answered_by']} says so.)"
    lines = [f"Cluster {found['cluster_id']}: {summary}. {asked}"]
    if not found["reaches_majority"]:
        lines.append(
            f"Node {found['answered_by']} reaches no majority of the metadata: nothing can change"
            " and nothing new is written until it does. What follows is what it knew last."
        )
    lines.append("")
    lines += table([NODE_HEADER, *map(_node_row, nodes)])
    lines += [
        f"Member {one['member']} ({one['raft_role']}) of the metadata never registered as a node:"
        f" if nobody is on the way, `walrus cluster forget {one['member']}`."
        for one in found["unregistered_members"]
    ]
    lines.append("")
    if not topics:
        return "\n".join([*lines, "No topics."])
    lines += table([TOPIC_HEADER, *map(_topic_row, topics)])
    lines += [
        f"{topic['name']}: no live node has offsets {first} to {end - 1}. Readers wait there until"
        f" one that has them is back, or until everything below {end} is deleted."
        for topic in topics
        for first, end in _joined(topic["unreadable"])
    ]
    return "\n".join(lines)


def _joined(ranges: list[list[int]]) -> list[list[int]]:
    """Neighbours as one."""
    joined: list[list[int]] = []
    for first, end in ranges:
        if joined and joined[-1][1] == first:
            joined[-1][1] = end
        else:
            joined.append([first, end])
    return joined


def _node_row(node: Any) -> tuple[str, ...]:
    return (
        str(node["node_id"]),
        _state(node),
        "leader" if node["is_raft_leader"] else node["raft_role"],
        str(node["led_topics"]),
        node["peer"],
        " ".join(f"{name}={address}" for name, address in node["listeners"].items()),
    )


def _state(node: Any) -> str:
    alive = "alive" if node["is_alive"] else "fenced"
    return f"{alive}, leaving" if node["is_leaving"] else alive


def _topic_row(topic: Any) -> tuple[str, ...]:
    lag = topic["lag"]
    behind = "?" if lag is None else " ".join(f"{node}:{count}" for node, count in lag.items())
    return (
        topic["name"],
        "none" if topic["leader_id"] is None else str(topic["leader_id"]),
        str(topic["leader_epoch"]),
        str(len(topic["segments"])),
        _numbers(topic["replicas"]),
        _numbers(topic["live_replicas"]),
        str(topic["under_replicated_segments"]),
        behind or "-",
    )


def _numbers(values: list[int]) -> str:
    return ",".join(map(str, values)) or "none"
