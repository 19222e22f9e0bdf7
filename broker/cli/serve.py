"""`walrus serve`: settings, logs, banner, and the exit code of a node's life."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click

from broker.cli.lean import lean_imports
from broker.cli.options import settings_options
from broker.config import Config, Origins

STOPPED_AT_ONCE = 130
"""Exit code after a second signal: requests under way were not waited for."""


@click.command()
@settings_options()
def serve(config: Config, origins: Origins) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    Each setting is also a variable (WALRUS_KAFKA_PORT) and a key of walrus.toml (kafka_port);
    flags beat the environment, which beats the file.
    """
    sys.exit(run_node(config, origins))


def run_node(config: Config, origins: Origins) -> int:
    """Run a node in this process until it ends; its exit code. Blocking."""
    with lean_imports():
        import structlog

        from broker.cli.banner import banner
        from broker.errors import EndsItself
        from broker.server.ending import TakenOut
        from broker.server.node import run
        from broker.telemetry.logging import close_logging, configure_logging
        from broker.telemetry.start import BannerInfo

    has_started = False

    def announce(info: BannerInfo) -> None:
        nonlocal has_started
        has_started = True
        # Nobody needs to listen on stdout for the node to serve.
        with suppress(OSError):
            click.echo(banner(info, cli=walrus_cli()))
            sys.stdout.flush()

    configure_logging(config.log_level, config.log_format)
    log = structlog.get_logger("walrus")
    for warning in origins.warnings:
        log.warning(warning)
    try:
        run(config, announce)
        return 0
    except (Exception, BaseExceptionGroup, KeyboardInterrupt) as error:
        causes = list(_leaves(error))
        if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            return STOPPED_AT_ONCE
        has_told = all(isinstance(cause, EndsItself) for cause in causes)
        if (has_started and not has_told) or config.log_level == "debug":
            log.critical("the node failed", exc_info=error)
    finally:
        close_logging()
    for cause in causes:
        click.echo(f"walrus: {_line(cause)}", err=True)
    # Who was told to go while it served has done that: no supervisor shall start it again.
    has_left = has_started and all(isinstance(cause, TakenOut) for cause in causes)
    return 0 if has_left else 1


def walrus_cli(name: str = "walrus-cli") -> str:
    """`walrus-cli` as this person's shell will find it: by name, or beside the running Python."""
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name) or not beside.exists():
        return name
    with suppress(ValueError):
        return str(beside.relative_to(Path.cwd()))
    return str(beside)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """What went wrong, without the groups that tasks wrap it in."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    # Our own errors, and the system's, are sentences; anything else is a bug and needs its name.
    if isinstance(error, OSError) or type(error).__module__.startswith(
        ("broker.", "engine.", "raft.")
    ):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (`--log-level debug` shows where)"
