"""`walrus`: the list of commands, each imported when it is asked for."""

from importlib import import_module

import click

COMMANDS = {
    "serve": ("broker.cli.serve:serve", "Run a node."),
    "dev": ("broker.cli.serve:dev", "Run a node to try things out, on this machine only."),
    "config": ("broker.cli.settings:config", "Show or check the settings of a node."),
    "doctor": ("broker.cli.doctor:doctor", "Look for what would stop or slow a node here."),
    "inspect": ("broker.cli.inspect:inspect", "Show what a stored file holds."),
    "truncate": ("broker.cli.truncate:truncate", "Give up the end of a damaged log file."),
}
"""Every command: where it lives, and its line in `walrus --help`."""


class Commands(click.Group):
    """A group that knows its commands by name and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="walrus-broker", message="walrus %(version)s")
def walrus() -> None:
    """A distributed log that speaks Kafka's protocol and its own.

    `walrus dev` starts a node and prints how to create, produce and consume.
    """


def main() -> None:
    """The entry point of `walrus`."""
    walrus(prog_name="walrus")


if __name__ == "__main__":
    main()
