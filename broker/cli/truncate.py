"""`walrus truncate`: the remedy that an error about a corrupt log file names."""

import fcntl
from contextlib import suppress
from pathlib import Path

import click

LOCK_NAME = "lock"
"""In the data directory, held by the one process that runs on it."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("position", type=click.IntRange(min=0))
@click.option("--yes", is_flag=True, help="Do not ask.")
def truncate(file: Path, position: int, yes: bool) -> None:
    """Cut the log file FILE at byte POSITION. Only while the node is stopped.

    The records beyond POSITION are lost to the node; their bytes are kept beside the file,
    as FILE.POSITION.cut.
    """
    from engine.backends import choose
    from engine.recovery import truncate_at

    _refuse_while_running(file)
    size = file.stat().st_size
    if not yes:
        click.confirm(
            f"Cut {max(0, size - position)} of {size} bytes off {file}? The node must be stopped",
            abort=True,
        )
    backend = choose(prefer="pread")
    try:
        saved = truncate_at(fs=backend.fs, path=file, position=position)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        backend.close()
    click.echo(f"{file} now has {position} bytes; the {size - position} bytes cut are in {saved}")


def _refuse_while_running(file: Path) -> None:
    """A node holds the lock of its data directory, which is some parent of `file`."""
    for parent in file.resolve().parents:
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            (parent / LOCK_NAME).open("rb") as lock,
        ):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                text = f"a node is running on {parent}: stop it first"
                raise click.ClickException(text) from error
