"""Questions to a node's admin listener, from the command line."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])

DEFAULT_ADDRESS = "127.0.0.1:9644"

TIMEOUT_S = 10.0


class AdminError(Exception):
    """No answer, or a refusal; the text says which."""


def address_option(command: F) -> F:
    """`--addr`."""
    return click.option(
        "--addr",
        default=DEFAULT_ADDRESS,
        show_default=True,
        metavar="HOST:PORT",
        help="The admin listener of any node.",
    )(command)


def get(addr: str, path: str, timeout_s: float = TIMEOUT_S) -> Any:
    """The JSON at `path`. Raises AdminError."""
    return _ask(addr, urllib.request.Request(f"http://{addr}{path}"), timeout_s)


def post(addr: str, path: str, body: object = None, timeout_s: float = TIMEOUT_S) -> Any:
    """Have something done. Raises AdminError."""
    request = urllib.request.Request(
        f"http://{addr}{path}",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
        method="POST",
    )
    return _ask(addr, request, timeout_s)


def fail(error: AdminError) -> NoReturn:
    """End the command with exit code 1."""
    click.echo(f"walrus: {error}", err=True)
    sys.exit(1)


def _ask(addr: str, request: urllib.request.Request, timeout_s: float) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310
            return json.load(response)
    except urllib.error.HTTPError as error:
        if (refusal := _refusal(error)) is not None:
            raise AdminError(refusal) from error
        why = f"{error.code} {error.reason}; is it a node's admin port, and does it serve yet?"
    except urllib.error.URLError as error:
        why = str(getattr(error.reason, "strerror", None) or error.reason)
    except (OSError, ValueError) as error:
        why = str(error)
    raise AdminError(f"no answer from the admin listener {addr}: {why}")


def _refusal(error: urllib.error.HTTPError) -> str | None:
    """What the node itself said, if it did."""
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return None
