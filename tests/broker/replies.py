"""What a peer receives of a reply."""

from broker.ports import Buffer, Reply


def received(reply: Reply) -> bytes:
    """Of a reply whose parts are all in memory: nothing that a test keeps in a fake is a file."""
    buffers = [part for part in reply if isinstance(part, Buffer)]
    assert len(buffers) == len(reply), "a part of a file"
    return b"".join(buffers)
