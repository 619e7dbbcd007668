"""How does a script talk to a Redis server, with nothing but a socket?"""

from __future__ import annotations

import socket
from contextlib import closing
from typing import Iterable, Iterator

from .repo import Failure

Reply = bytes | int | list["Reply"] | None
SECONDS_FOR_AN_ANSWER = 30


class Refused(Failure):
    """The server answered with an error."""


class Connection:
    """One connection, by the protocol's second version."""

    def __init__(self, port: int, password: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS_FOR_AN_ANSWER)
        self._answers = self._socket.makefile("rb")
        if password:
            self.command("AUTH", password)

    def command(self, *words: str | bytes | int | float) -> Reply:
        """Returns the server's answer; an error raises Refused, with the server's words."""
        (reply,) = self.commands([words])
        return reply

    def commands(self, batch: Iterable[tuple[str | bytes | int | float, ...]]) -> list[Reply]:
        """Sends many at once, then reads as many answers."""
        requests = [_request(words) for words in batch]
        self._socket.sendall(b"".join(requests))
        return [self._reply() for _ in requests]

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def _reply(self) -> Reply:
        line = self._answers.readline()
        if not line.endswith(b"\r\n"):
            raise Failure("the Redis server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise Refused(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._answers.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        raise Failure(f"the Redis server sent {line!r}, which is no answer")


def connection(port: int, password: str = "") -> closing[Connection]:
    """Returns a connection to use in a `with` block."""
    return closing(Connection(port, password))


def _request(words: tuple[str | bytes | int | float, ...]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(_bulks(words))


def _bulks(words: tuple[str | bytes | int | float, ...]) -> Iterator[bytes]:
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        yield b"$%d\r\n%b\r\n" % (len(data), data)
