"""`walrus-cli`: the native protocol by hand. Without a subcommand, a prompt.

Payloads go out as they are given and come in as they are stored, byte for byte. At a terminal a
message is followed by a line end that is not part of it; in a pipe it is not.

Exit codes: 0 done (also when GET finds nothing and prints EMPTY), 1 the node answered ERR or did
not answer, 2 the command line cannot be meant.

Only click and the standard library are imported before a command runs.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from broker.cli.native_client import NativeClient, NativeError, NoAnswer
from broker.cli.shapes import Address

DEFAULT_ADDRESS: Final = "127.0.0.1:8080"
PROMPT: Final = "🦭 > "

HELP: Final = """\
REGISTER topic         create the topic unless it exists
PUT topic payload      append a message: everything after the second space
GET topic              take the next message at the topic's shared cursor
STATE topic            the topic's chain of segments
METRICS                what the node says about itself
help                   this list
exit | quit | q        leave

Verbs may be typed in small letters. Lines go to the node as they are: quotes are part of a payload.
"""

_VERBS: Final = ("REGISTER", "PUT", "GET", "STATE", "METRICS")
_EXITS: Final = ("exit", "quit", "q")


class _Topic(click.ParamType[str]):
    """A topic that the protocol can carry: the node would read on after a space."""

    name = "TOPIC"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        topic = str(value)
        if not topic or " " in topic:
            self.fail(f"a topic is one word, not {topic!r}", param, ctx)
        return topic


class _Settings:
    """Where to, and how long to wait."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.host = host
        self.port = port
        self.timeout_s = timeout_s

    def connect(self) -> NativeClient:
        return NativeClient(self.host, self.port, timeout_s=self.timeout_s)

    @contextmanager
    def client(self) -> Iterator[NativeClient]:
        """A client for one command; what goes wrong becomes a line and exit code 1."""
        try:
            with self.connect() as client:
                yield client
        except NativeError as error:
            _fail(f"ERR {error}")
        except NoAnswer as error:
            _fail(str(error))


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--addr",
    type=Address(DEFAULT_ADDRESS),
    default=DEFAULT_ADDRESS,
    envvar="WALRUS_ADDR",
    show_default=True,
    show_envvar=True,
    help="The node's native listener.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the node.",
)
@click.pass_context
def main(ctx: click.Context, addr: tuple[str, int], timeout_s: float) -> None:
    """Talk to a Walrus node over its native protocol.

    Without a command: a prompt, or the lines of standard input when that is no terminal.
    """
    ctx.obj = _Settings(*addr, timeout_s)
    if ctx.invoked_subcommand is None:
        ctx.invoke(repl)


@main.command()
@click.argument("topic", type=_Topic())
@click.pass_obj
def register(settings: _Settings, topic: str) -> None:
    """Create TOPIC unless it exists."""
    with settings.client() as client:
        client.register(topic)
    click.echo("OK")


@main.command()
@click.argument("topic", type=_Topic())
@click.argument("payload")
@click.pass_obj
def put(settings: _Settings, topic: str, payload: str) -> None:
    """Append PAYLOAD to TOPIC; `-` takes it from standard input, byte for byte.

    What looks like an option goes behind `--`: put logs -- --payload
    """
    data = sys.stdin.buffer.read() if payload == "-" else os.fsencode(payload)
    with settings.client() as client:
        client.put(topic, data)
    click.echo("OK")


@main.command()
@click.argument("topic", type=_Topic())
@click.pass_obj
def get(settings: _Settings, topic: str) -> None:
    """Take the next message of TOPIC and print it; EMPTY if there is none yet."""
    with settings.client() as client:
        payload = client.get(topic)
    if payload is None:
        click.echo("EMPTY")
    else:
        _write(payload)


@main.command()
@click.argument("topic", type=_Topic())
@click.pass_obj
def state(settings: _Settings, topic: str) -> None:
    """Show TOPIC's chain of segments as JSON."""
    with settings.client() as client:
        click.echo(json.dumps(client.state(topic), indent=2))


@main.command()
@click.pass_obj
def metrics(settings: _Settings) -> None:
    """Show what the node says about itself as JSON."""
    with settings.client() as client:
        click.echo(json.dumps(client.metrics(), indent=2))


@main.command()
@click.pass_obj
def repl(settings: _Settings) -> None:
    """Read commands from a prompt, or from the lines of standard input when that is no terminal.

    In a pipe the first ERR ends it with exit code 1.
    """
    if sys.stdin.isatty():
        _converse(settings, _prompt())
        return
    with settings.client() as client:
        for line in sys.stdin.buffer:
            command = _command(line.rstrip(b"\r\n"))
            if command in {word.encode() for word in _EXITS}:
                return
            if command == b"help":
                click.echo(HELP, nl=False)
            elif command:
                _show(client.request(command))


def _converse(settings: _Settings, read_line: Callable[[], str]) -> None:
    """The prompt: an ERR is shown and forgotten, a lost connection is made anew."""
    click.echo(f"connected to {settings.host}:{settings.port} when first asked; `help` helps")
    client: NativeClient | None = None
    try:
        while (line := _line(read_line)) is not None and line not in _EXITS:
            if line == "help":
                click.echo(HELP, nl=False)
            elif line:
                try:
                    if client is not None and client.has_hung_up():
                        client.close()
                        client = None
                    client = client or settings.connect()
                    _show(client.request(_command(os.fsencode(line))))
                except NativeError as error:
                    click.secho(f"ERR {error}", fg="red")
                except NoAnswer as error:
                    click.secho(str(error), fg="red")
                    if client is not None:
                        client.close()
                    client = None
    finally:
        if client is not None:
            client.close()


def _line(read_line: Callable[[], str]) -> str | None:
    """The next line of the prompt; None at its end. Ctrl-C forgets the line that was begun."""
    while True:
        try:
            line = read_line().lstrip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return None
        return line.rstrip() if line.rstrip() in {"help", *_EXITS, ""} else line


def _prompt() -> Callable[[], str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    history: History = InMemoryHistory()
    try:
        path = history_path()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        history = FileHistory(str(path))
    except OSError as error:
        click.echo(f"no history is kept: {error}", err=True)
    words = [*_VERBS, "help", "exit"]
    session: PromptSession[str] = PromptSession(
        history=history,
        auto_suggest=AutoSuggestFromHistory(),
        completer=WordCompleter(words, ignore_case=True, match_middle=False, sentence=True),
        complete_while_typing=False,
    )
    return lambda: session.prompt(PROMPT)


def history_path() -> Path:
    """Where the prompt's history is kept: below the XDG state directory."""
    state_home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state_home) if state_home.startswith("/") else Path.home() / ".local" / "state"
    return base / "walrus" / "cli_history"


def _command(line: bytes) -> bytes:
    """The line as the node takes it: the verb in capitals, the rest untouched."""
    verb, space, rest = line.lstrip().partition(b" ")
    if verb.upper().decode("ascii", "replace") in _VERBS:
        verb = verb.upper()
    return verb + space + rest


def _show(reply: bytes) -> None:
    """A reply at the prompt: the payload of `OK payload`, anything else as it is."""
    sys.stdout.buffer.write(reply.removeprefix(b"OK ") + b"\n")
    sys.stdout.flush()


def _write(payload: bytes) -> None:
    sys.stdout.buffer.write(payload)
    if sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()


def _fail(text: str) -> None:
    click.echo(text, err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
