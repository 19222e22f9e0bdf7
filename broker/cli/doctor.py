"""`walrus doctor`: each thing that would stop or slow a node here, with one sentence of advice."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

import click

from broker.cli.options import settings_options
from broker.config import Config, Origins

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object per check.")
@settings_options()
def doctor(config: Config, origins: Origins, as_json: bool) -> None:
    """Check this machine for a node with these settings.

    Writes and removes one small file in the data directory. Exit code 1 if anything fails.
    """
    from broker.cli.checks import Check, check_all

    checks: Sequence[Check] = check_all(config, origins.warnings)
    for check in checks:
        if as_json:
            click.echo(json.dumps(asdict(check), ensure_ascii=False))
            continue
        level = click.style(f"{check.level:<4}", fg=_COLOURS[check.level])
        click.echo(f"{level}  {check.name:<12} {check.found}")
        if check.advice:
            click.echo(f"{'':<19} {check.advice}")
    sys.exit(1 if any(check.level == "fail" for check in checks) else 0)
