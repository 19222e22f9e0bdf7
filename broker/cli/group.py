"""`walrus group`: consumer groups, their members, positions and lag, in words and JSON.

It speaks Kafka's protocol, to whichever node coordinates a group. Exit codes: 0 done, 1 refused or
no answer, 2 the command line cannot be meant.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from broker.cli.shapes import Address, table

if TYPE_CHECKING:
    from broker.cli.group_calls import Described, GroupCalls, Listed

DEFAULT_ADDRESS = "127.0.0.1:9092"

LIST_HEADER = ("GROUP", "STATE", "PROTOCOL TYPE", "COORDINATOR")
MEMBER_HEADER = ("MEMBER", "INSTANCE", "CLIENT", "HOST", "TOPICS")
POSITION_HEADER = ("TOPIC", "COMMITTED", "END", "LAG", "MEMBER")
SEEK_HEADER = ("TOPIC", "BEFORE", "AFTER")


class _Place(click.ParamType[Any]):
    """ "start", "end", an offset or a time (a datetime with a zone, UTC if it names none)."""

    name = "start|end|OFFSET|TIME"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        text = str(value)
        if text in ("start", "end"):
            return text
        if text.isascii() and text.isdecimal() and len(text) < 19:
            return int(text)
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither start, end, an offset nor a time", param, ctx)
        return time if time.tzinfo else time.replace(tzinfo=UTC)


@click.group()
@click.option(
    "--addr",
    type=Address(DEFAULT_ADDRESS),
    default=DEFAULT_ADDRESS,
    show_default=True,
    metavar="HOST:PORT",
    help="The Kafka listener of any node.",
)
@click.option("--timeout", "timeout_s", default=30.0, show_default=True, metavar="SECONDS")
@click.pass_context
def group(ctx: click.Context, addr: tuple[str, int], timeout_s: float) -> None:
    """Look at consumer groups, and move or delete their positions."""
    ctx.obj = (addr, timeout_s)


_AS_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@contextmanager
def _calls(ctx: click.Context) -> Iterator["GroupCalls"]:
    """What goes wrong becomes a line and exit code 1."""
    from broker.cli.group_calls import GroupCalls
    from broker.cli.kafka_client import KafkaClient, KafkaError
    from broker.cli.native_client import NoAnswer

    (host, port), timeout_s = ctx.obj
    try:
        with KafkaClient(host, port, timeout_s=timeout_s) as client:
            yield GroupCalls(client)
    except (KafkaError, NoAnswer) as error:
        click.echo(f"walrus: {error}", err=True)
        sys.exit(1)


def _say(found: Any, as_json: bool, lines: Sequence[str]) -> None:
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(lines))


# ---- looking -------------------------------------------------------------------------------------


@group.command("list")
@_AS_JSON
@click.pass_context
def list_groups(ctx: click.Context, as_json: bool) -> None:
    """All groups of the cluster."""
    with _calls(ctx) as calls:
        found = calls.groups()
        _say([asdict(one) for one in found], as_json, groups_in_words(found))


def groups_in_words(groups: Sequence["Listed"]) -> list[str]:
    """As a table for a person."""
    if not groups:
        return ["No groups."]
    rows = [
        (one.group, one.state, one.protocol_type or "-", str(one.coordinator)) for one in groups
    ]
    return table([LIST_HEADER, *rows])


@group.command()
@click.argument("group_id", metavar="GROUP")
@_AS_JSON
@click.pass_context
def describe(ctx: click.Context, group_id: str, as_json: bool) -> None:
    """Members of a group, and how far it is behind in each topic."""
    with _calls(ctx) as calls:
        found = calls.describe(group_id)
        _say(as_data(found), as_json, described_in_words(found))


def as_data(found: "Described") -> dict[str, Any]:
    """What `--json` shows: the fields, and the lag that follows from them."""
    data = asdict(found)
    for position, shown in zip(found.positions, data["positions"], strict=True):
        shown["lag"] = position.lag
    return data | {"lag": found.lag}


def described_in_words(found: "Described") -> list[str]:
    """As tables for a person."""
    protocol = f", {found.protocol_type} {found.protocol}".rstrip() if found.protocol_type else ""
    count = len(found.members)
    members = "1 member" if count == 1 else f"{count or 'no'} members"
    says = f"{found.state}{protocol}; {members}; {found.lag} records behind"
    lines = [f"Group {found.group}: {says}; coordinated by node {found.coordinator}.", ""]
    if found.members:
        rows = [
            (
                one.member_id,
                one.instance_id or "-",
                one.client_id,
                one.host,
                ",".join(one.topics) or "-",
            )
            for one in found.members
        ]
        lines += [*table([MEMBER_HEADER, *rows]), ""]
    if not found.positions:
        return [*lines, "No positions."]
    positions = [
        (one.topic, _number(one.committed), _number(one.end), _number(one.lag), one.member or "-")
        for one in found.positions
    ]
    return [*lines, *table([POSITION_HEADER, *positions])]


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


# ---- changing ------------------------------------------------------------------------------------


@group.command()
@click.argument("group_ids", metavar="GROUP...", nargs=-1, required=True)
@_AS_JSON
@click.pass_context
def delete(ctx: click.Context, group_ids: Sequence[str], as_json: bool) -> None:
    """Delete groups without members, with everything they have committed."""
    with _calls(ctx) as calls:
        for group_id in group_ids:
            calls.delete(group_id)
    _say({"deleted": list(group_ids)}, as_json, [f"Deleted {one}." for one in group_ids])


@group.command("delete-offsets")
@click.argument("group_id", metavar="GROUP")
@click.option("--topic", "topics", multiple=True, required=True, help="Repeatable.")
@_AS_JSON
@click.pass_context
def delete_offsets(ctx: click.Context, group_id: str, topics: Sequence[str], as_json: bool) -> None:
    """Forget what a group has committed in topics that no member subscribes to."""
    with _calls(ctx) as calls:
        calls.delete_offsets(group_id, topics)
    lines = [f"{group_id} has no position in {topic} any more." for topic in topics]
    _say({"group": group_id, "deleted": list(topics)}, as_json, lines)


@group.command()
@click.argument("group_id", metavar="GROUP")
@click.option(
    "--to",
    "place",
    type=_Place(),
    required=True,
    help="The first record, the end, an offset, or the first record at or after a time such as "
    "2026-01-31T12:00:00Z.",
)
@click.option(
    "--topic", "topics", multiple=True, help="Repeatable. Default: where it has committed."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be.")
@_AS_JSON
@click.pass_context
def seek(
    ctx: click.Context,
    group_id: str,
    place: str | int | datetime,
    topics: Sequence[str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Move a group without members to another place in its topics.

    An offset outside of a topic is brought to its nearest end. A group that is not there yet is
    made, if --topic names topics.
    """
    with _calls(ctx) as calls:
        before = calls.committed(group_id)
        chosen = topics or sorted(before)
        if not chosen:
            raise click.UsageError(f"{group_id} has committed nothing: name topics by --topic")
        after = target(calls, chosen, place)
        gone = sorted(set(chosen) - after.keys())
        if gone:
            raise click.UsageError(f"no topic {', '.join(gone)}")
        if not dry_run:
            calls.commit(group_id, after)
    moves = [
        {"topic": topic, "before": before.get(topic), "after": after[topic]} for topic in chosen
    ]
    rows = [(topic, _number(before.get(topic)), str(after[topic])) for topic in chosen]
    said = "This would be" if dry_run else "Done"
    _say(
        {"group": group_id, "is_done": not dry_run, "positions": moves},
        as_json,
        [f"{said}:", *table([SEEK_HEADER, *rows])],
    )


def target(
    calls: "GroupCalls", topics: Sequence[str], place: str | int | datetime
) -> dict[str, int]:
    """The offset of `place` in each topic that is there."""
    from broker.cli.group_calls import EARLIEST, LATEST

    ends = calls.offsets(dict.fromkeys(topics, LATEST))
    if place == "end":
        return ends
    if isinstance(place, datetime):
        found = calls.offsets(dict.fromkeys(ends, int(place.timestamp() * 1000)))
        return {topic: offset if offset >= 0 else ends[topic] for topic, offset in found.items()}
    starts = calls.offsets(dict.fromkeys(ends, EARLIEST))
    if isinstance(place, str):
        return starts
    return {topic: max(starts[topic], min(place, end)) for topic, end in ends.items()}
