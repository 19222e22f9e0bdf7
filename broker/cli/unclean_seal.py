"""`walrus cluster unclean-seal TOPIC`: go on with what is left of a topic."""

import click

from broker.cli.admin_client import AdminError, address_option, fail, post


@click.command("unclean-seal")
@click.argument("topic")
@address_option
@click.option("--force", default="", metavar="TOPIC", help="The topic's name once more.")
def unclean_seal(topic: str, addr: str, force: str) -> None:
    """Accept that acknowledged records of TOPIC may be lost, and go on with what is left.

    For a topic that waits because too many disks of its last segment are gone. Without --force it
    only says what may be lost. A topic that can go on without a loss is left alone.
    """
    try:
        post(addr, f"/v1/topics/{topic}/unclean-seal", {"force": force})
    except AdminError as error:
        fail(error)
    click.echo(
        f"The cluster has noted it: {topic} goes on with what is left, as soon as one of its"
        " replicas is there."
    )
