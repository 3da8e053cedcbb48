"""The serving ports of one worker, REST and gRPC, as one: listening, sweeping, shedding and draining."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

from homeostat.server.problem import Problem
from homeostat.server.protocols.grpc_service import GrpcService
from homeostat.server.service import Service
from homeostat.server.settings import Settings
from homeostat.server.tracing.spans import Spans
from homeostat.server.transport import grpc, http2
from homeostat.server.transport.exchange import Limits
from homeostat.server.transport.grpc import Call
from homeostat.server.transport.http import Server
from homeostat.server.transport.tls import Contexts, handshake

BACKLOG: Final = 4096
_REASONS: Final = {408: "time", 413: "body", 431: "header"}


class Ports:
    """Both servers of one `Service`; without `grpc_port` there is one."""

    def __init__(
        self, settings: Settings, service: Service, refuse: Callable[[str], None], spans: Spans | None = None
    ) -> None:
        """refuse: counts a request that was refused, by the bound that it passed."""
        limits = Limits(
            settings.max_header,
            settings.max_body,
            settings.max_connections,
            settings.header_seconds,
            settings.body_seconds,
            settings.idle_seconds,
        )
        self._settings, self._service, self._calls = settings, service, 0
        self._infer_grpc = spans.over_grpc(service.infer_grpc) if spans else service.infer_grpc
        handle = spans.over_http(service.handle) if spans else service.handle
        self._refuse, self._rest = refuse, Server(handle, limits, refused=self._refused)
        self._grpc: http2.Server | None = None
        if settings.grpc_port:
            methods = GrpcService(settings, service.metadata, lambda: service.ready, self._infer).methods
            self._grpc = grpc.listener(methods, limits)

    def _infer(self, call: Call) -> None:
        self._calls += 1
        self._infer_grpc(call)

    def _refused(self, problem: Problem) -> None:
        """A request that no protocol saw."""
        why = _REASONS.get(problem.status, "malformed")
        if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
            why = "connections" if len(self._rest.connections) > self._settings.max_connections else "bodies"
        self._refuse(why)

    async def listen(self, sockets: Sequence[socket.socket], tls: Contexts) -> list[asyncio.Server]:
        """Accept from these sockets, which are in the order of `Settings.ports`."""
        loop, settings = asyncio.get_running_loop(), self._settings
        made = [
            await loop.create_server(
                self._rest.connection, sock=sockets[0], backlog=BACKLOG, **handshake(tls.rest, settings)
            )
        ]
        if self._grpc is not None:
            secure = handshake(tls.grpc, settings)
            made.append(await loop.create_server(self._grpc.connection, sock=sockets[1], backlog=BACKLOG, **secure))
        return made

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._rest.connections) + (len(self._grpc.connections) if self._grpc else 0)

    @property
    def answered(self) -> int:
        """Requests so far."""
        return self._rest.answered + self._calls

    @property
    def draining(self) -> bool:
        """Whether clients are asked to leave for good."""
        return self._rest.draining

    def drain(self) -> None:
        """Ask clients to leave: answers carry `Connection: close`, connections of gRPC get GOAWAY."""
        self._rest.draining = True
        if self._grpc:
            self._grpc.draining = True

    def route_drain(self, *, on: bool) -> None:
        """Ask clients to leave while the route says so."""
        self._rest.route_drain = on
        if self._grpc:
            self._grpc.route_drain = on

    def sweep(self) -> None:
        """Close what is too slow or idle for too long. Call it about every second."""
        self._rest.sweep()
        if self._grpc:
            self._grpc.sweep()

    def shed(self, count: int) -> None:
        """Let that many connections go elsewhere; first of the protocol that has more of them."""
        if self._grpc is None or len(self._rest.connections) >= len(self._grpc.connections):
            self._rest.shed = count
        else:
            self._rest.shed = 0
            self._grpc.shed(count)

    def close_idle(self, quiet: float) -> None:
        """Close connections without a request in flight for `quiet` seconds."""
        self._rest.close_idle(quiet)
        if self._grpc:
            self._grpc.close_idle(quiet)
