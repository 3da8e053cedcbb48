"""The listening sockets of one port, one for each worker, owned by the supervisor.

The kernel spreads new connections over the sockets of a port (SO_REUSEPORT); a small program in front of them says over
which. So a connection never goes to a worker that starts again, hangs or leaves, none that waits is reset when a worker
ends, and a worker with few connections gets more of the new ones. Without such programs (some sandboxes) the kernel
chooses among all.
"""

import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Final

BACKLOG: Final = 4096
_ATTACH: Final = 51  # SO_ATTACH_REUSEPORT_CBPF
_RANDOM: Final = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_LOAD, _MODULO, _IF_EQUAL, _RETURN = 0x20, 0x94, 0x15, 0x06
_MOST: Final = 1024  # jumps of a program; a classic one has at most 4096 instructions


class Listeners:
    """Sockets by worker's number. They are bound at once, so that a port in use is known early, and listen when told."""

    def __init__(self, host: str, port: int, most: int) -> None:
        """most: sockets that there may ever be. Raises OSError when the port is taken, also by another of our kind."""
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self._family, self._address, self._port = found[0][0], found[0][4], port
        with self._new(shared=False) as probe:  # a shared bind would succeed beside another server's
            self._port = probe.getsockname()[1]
            self._address = (self._address[0], self._port, *self._address[2:])
        self._most = most
        self._sockets: dict[int, socket.socket] = {}
        self._order: list[int] = []  # the kernel's: by the time of listen
        self._targets: tuple[int, ...] = ()
        self._steers = True

    def of(self, number: int) -> socket.socket:
        """The bound socket of that worker; it stays the same over the worker's restarts."""
        if number not in self._sockets:
            self._sockets[number] = self._new(shared=True)
        return self._sockets[number]

    def listen(self, number: int) -> None:
        """Let connections come to that worker's socket. Raises OSError."""
        if number not in self._order:
            self.of(number).listen(BACKLOG)
            self._order.append(number)

    def steer(self, targets: Sequence[int]) -> None:
        """Let new connections go to these workers only, each as often as it is named. None: as it was."""
        wanted = tuple(self._order.index(number) for number in targets if number in self._order)[:_MOST]
        if not wanted or wanted == self._targets or not self._steers:
            return
        program = steering(wanted)
        buffer = ctypes.create_string_buffer(program)
        described = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
        try:
            self._sockets[self._order[0]].setsockopt(socket.SOL_SOCKET, _ATTACH, described)
        except OSError as error:
            self._steers = False
            sys.stderr.write(f"new connections are spread by the kernel alone: {error.strerror or error}\n")
        else:
            self._targets = wanted

    def close(self) -> None:
        """Stop listening."""
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()
        self._order.clear()

    def _new(self, *, shared: bool) -> socket.socket:
        one = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self._family == socket.AF_INET6 and self._address[0] == "::":
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            one.bind(self._address)
            if not shared:
                one.listen(1)
        except OSError as error:
            one.close()
            if error.errno == errno.EADDRINUSE:
                raise OSError(errno.EADDRINUSE, f"another process has port {self._port}") from error
            raise
        one.setblocking(False)
        return one


def steering(indices: Sequence[int]) -> bytes:
    """A classic BPF program that returns one of `indices` at random."""
    steps = [(_LOAD, 0, 0, _RANDOM), (_MODULO, 0, 0, len(indices))]
    for place, index in enumerate(indices[:-1]):
        steps += [(_IF_EQUAL, 0, 1, place), (_RETURN, 0, 0, index)]
    steps.append((_RETURN, 0, 0, indices[-1]))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
