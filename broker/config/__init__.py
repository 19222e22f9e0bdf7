"""What can be set about a node: one table of settings, four layers, and errors that say where.

settings.py   `Config`, the table: every key with its kind, default, unit and meaning
values.py     the kinds of values and what each accepts (pure)
load.py       defaults < file < environment < flags, and where each value came from
reference.py  the table as Markdown, for `docs/configuration.md`
"""

from broker.config.load import ConfigError, Origin, Origins, load
from broker.config.settings import SETTINGS, Config, Setting
from broker.config.values import HostPort, Listener, plain

__all__ = [
    "SETTINGS",
    "Config",
    "ConfigError",
    "HostPort",
    "Listener",
    "Origin",
    "Origins",
    "Setting",
    "load",
    "plain",
]
