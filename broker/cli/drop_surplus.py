"""`walrus cluster drop-surplus`: copies that nobody needs any more go."""

import click

from broker.cli.admin_client import AdminError, address_option, fail, post

TIMEOUT_S = 600.0
"""Each copy is a change of the metadata and a deletion."""


@click.command("drop-surplus")
@address_option
def drop_surplus(addr: str) -> None:
    """Drop the copies that the asked node holds beyond what their topics want.

    Such copies were made while another node was away for long, and are of no use when it is back.
    Only closed segments are touched, and only where as many live nodes as the topic's replication
    factor asks for hold all of it. Each node drops its own: ask them one by one.
    """
    try:
        found = post(addr, "/v1/surplus/drop", timeout_s=TIMEOUT_S)
    except AdminError as error:
        fail(error)
    click.echo(f"{found['segments']} copies were dropped, {found['size']} bytes.")
