"""A listener of its own for one client, behind which every request is noted and passed on."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress


class Recorder:
    """Clients dial `port`; the broker listens at `target` and must tell them to dial `port`."""

    def __init__(self, port: int, target: int) -> None:
        self.seen: set[tuple[int, int]] = set()
        """API key and version of every request so far."""
        self.port = port
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", port))
        self._streams: list[socket.socket] = []
        self._start(self._accept)

    def close(self) -> None:
        """Cut every connection."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for stream in self._streams:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
            stream.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=self._until_cut, args=(work, *arguments), daemon=True).start()

    @staticmethod
    def _until_cut(work: Callable[..., None], *arguments: object) -> None:
        with suppress(OSError):
            work(*arguments)

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            broker = socket.create_connection(("127.0.0.1", self._target))
            self._streams += [client, broker]
            self._start(self._requests, client, broker)
            self._start(self._answers, broker, client)

    def _requests(self, client: socket.socket, broker: socket.socket) -> None:
        with client.makefile("rb") as reader:
            while len(size := reader.read(4)) == 4:
                request = reader.read(struct.unpack(">I", size)[0])
                self.seen.add(struct.unpack_from(">hh", request))
                broker.sendall(size + request)
        broker.shutdown(socket.SHUT_WR)

    def _answers(self, broker: socket.socket, client: socket.socket) -> None:
        while data := broker.recv(1 << 16):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
