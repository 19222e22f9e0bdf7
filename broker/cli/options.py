"""The flags that all commands about a node's settings share, derived from their table."""

import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from broker.config import SETTINGS, Config, ConfigError, Origins, Setting, load
from broker.config.reference import default_text
from broker.config.values import Listeners, Switch

DEFAULT_FILE = Path("walrus.toml")

F = TypeVar("F", bound=Callable[..., Any])


class ConfigFailure(click.ClickException):
    """Settings that cannot be meant, as the command line reports them."""

    exit_code = 2

    def format_message(self) -> str:
        return f"the settings cannot be used:\n  {self.message.replace(chr(10), f'{chr(10)}  ')}"


def settings_options(preset: Mapping[str, object] | None = None) -> Callable[[F], F]:
    """Give a command every setting as a flag; it is called with `config` and `origins` instead.

    `preset` replaces defaults. Settings that cannot be meant end the command with exit code 2.
    """

    def decorate(command: F) -> F:
        @wraps(command)
        def wrapper(config_file: Path | None, **kwargs: Any) -> Any:
            flags = {setting.name: kwargs.pop(setting.name) for setting in SETTINGS}
            config, origins = _load(flags, config_file, preset or {})
            return command(config=config, origins=origins, **kwargs)

        decorated: Any = wrapper
        for setting in reversed(SETTINGS):
            decorated = _option(setting, preset or {})(decorated)
        return _FILE_OPTION(decorated)  # type: ignore[no-any-return]

    return decorate


_FILE_OPTION = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file of settings (WALRUS_CONFIG). Default: walrus.toml here, if it exists.",
)


def _load(
    flags: Mapping[str, object], file: Path | None, preset: Mapping[str, object]
) -> tuple[Config, Origins]:
    if file is None:
        named = os.environ.get("WALRUS_CONFIG")
        if named:
            file = Path(named)
        elif DEFAULT_FILE.exists():
            file = DEFAULT_FILE
    try:
        return load(flags, os.environ, file, preset=preset)
    except ConfigError as error:
        raise ConfigFailure(str(error)) from error


def _option(setting: Setting, preset: Mapping[str, object]) -> Callable[[F], F]:
    default = preset.get(setting.name, default_text(setting))
    text = f"{setting.help}  [default: {default}]"
    if isinstance(setting.kind, Switch):
        off = setting.flag.replace("--", "--no-", 1)
        return click.option(f"{setting.flag}/{off}", setting.name, default=None, help=text)
    return click.option(
        setting.flag,
        setting.name,
        metavar=setting.kind.metavar,
        multiple=isinstance(setting.kind, Listeners),
        help=text,
    )
