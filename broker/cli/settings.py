"""`walrus config`: what a node started here would run with, and where each value comes from."""

import json

import click

from broker.cli.options import settings_options
from broker.config import SETTINGS, Config, Origins, plain

_REPLACED_BY_LISTENERS = frozenset({"kafka_host", "kafka_port", "kafka_advertise"})


@click.group()
def config() -> None:
    """Show or check the settings of a node: defaults < file < environment < flags."""


@config.command("print")
@click.option("--origin", is_flag=True, help="Say where each value came from.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@settings_options()
def print_(config: Config, origins: Origins, origin: bool, as_json: bool) -> None:
    """Print every setting, as a walrus.toml that would set it so."""
    values = {setting.name: plain(getattr(config, setting.name)) for setting in SETTINGS}
    if config.kafka_listener:
        # The file would contradict itself with them.
        values = {name: v for name, v in values.items() if name not in _REPLACED_BY_LISTENERS}
    if as_json:
        shown: dict[str, object] = dict(values)
        if origin:
            shown = {
                name: {"value": value, "origin": str(origins[name])}
                for name, value in values.items()
            }
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for name, value in values.items():
        line = f"# {name} is not set" if value is None else f"{name} = {_toml(value)}"
        click.echo(f"{line:<48} # {origins[name]}" if origin else line)


@config.command()
@settings_options()
def check(config: Config, origins: Origins) -> None:
    """Check the settings without starting anything. Exit code 2 when they cannot be used."""
    for warning in origins.warnings:
        click.echo(f"warning: {warning}", err=True)
    count = sum(origins[setting.name].layer != "default" for setting in SETTINGS)
    click.echo(
        f"ok: node {config.node_id}, {count} of {len(SETTINGS)} settings are not the default"
    )


def _toml(value: object) -> str:
    # JSON's numbers, truths, lists and escaped texts are TOML's too.
    return json.dumps(value, ensure_ascii=False)
