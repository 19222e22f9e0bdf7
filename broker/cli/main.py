"""`walrus`: the list of commands, each imported when it is asked for."""

import click


def _serve() -> click.Command:
    from broker.cli.serve import serve

    return serve


def _dev() -> click.Command:
    from broker.cli.dev import dev

    return dev


def _cluster() -> click.Command:
    from broker.cli.cluster import cluster

    return cluster


def _group() -> click.Command:
    from broker.cli.group import group

    return group


def _config() -> click.Command:
    from broker.cli.settings import config

    return config


def _doctor() -> click.Command:
    from broker.cli.doctor import doctor

    return doctor


def _inspect() -> click.Command:
    from broker.cli.inspect import inspect

    return inspect


def _truncate() -> click.Command:
    from broker.cli.truncate import truncate

    return truncate


def _recover_metadata() -> click.Command:
    from broker.cli.recover_metadata import recover_metadata

    return recover_metadata


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from broker.telemetry.version import walrus_version

        click.echo(f"walrus {walrus_version()}")
        ctx.exit()


COMMANDS = {
    "serve": (_serve, "Run a node."),
    "dev": (_dev, "Run a node, or several, to try things out on this machine."),
    "cluster": (_cluster, "Show what a cluster looks like."),
    "group": (_group, "Look at consumer groups, and move or delete their positions."),
    "config": (_config, "Show or check the settings of a node."),
    "doctor": (_doctor, "Look for what would stop or slow a node here."),
    "inspect": (_inspect, "Show what a stored file holds."),
    "truncate": (_truncate, "Give up the end of a damaged log file."),
    "recover-metadata": (_recover_metadata, "Go on with one node when most disks are lost."),
}
"""Every command: how it is imported, and its line in `walrus --help`."""


class Commands(click.Group):
    """A group that knows its commands by name and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        load, _ = COMMANDS[cmd_name]
        return load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version.",
)
def walrus() -> None:
    """A distributed log that speaks Kafka's protocol and its own.

    `walrus dev` starts a node and prints how to create, produce and consume.
    """


def main() -> None:
    """The entry point of `walrus`."""
    walrus(prog_name="walrus")


if __name__ == "__main__":
    main()
