"""`walrus cluster forget MEMBER`: take a member off Raft's list that never became a node."""

import click

from broker.cli.admin_client import AdminError, address_option, fail, post


@click.command()
@click.argument("member")
@address_option
def forget(member: str, addr: str) -> None:
    """Take MEMBER off the list of those who get the metadata.

    For one that was let in and never registered as a node: its node id was taken, or its disk was
    lost at once. `walrus cluster status` names such members. One that is only slow, and registers
    after this, has to be started anew with an empty --data-dir. A node is taken out with
    `walrus cluster decommission`.
    """
    try:
        post(addr, f"/v1/members/{member}/forget")
    except AdminError as error:
        fail(error)
    click.echo(f"{member} is off the list.")
