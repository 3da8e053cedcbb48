"""Forwarding over real sockets on loopback: whatever a target does, one outcome comes, in time."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from homeostat.server.traffic import forward, outgoing
from homeostat.server.traffic.forward import Failure, Pool
from homeostat.server.traffic.outgoing import Reply

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/x\r\nx-mine: 1\r\n\r\nok"
REQUEST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Target:
    """Answers each request with the next of `answers` (the last one for ever), then closes when told to."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.answers, self.close = list(answers), close
        self.requests = self.connections = 0
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                await writer.drain()
                if self.close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


@asynccontextmanager
async def serving(target: Target, tls: ssl.SSLContext | None = None) -> AsyncIterator[Target]:
    server = await asyncio.start_server(target, "127.0.0.1", 0, ssl=tls)
    target.port = server.sockets[0].getsockname()[1]
    yield target
    server.close()


def pool_for(target: Target, **options: Any) -> Pool:
    return Pool(asyncio.get_running_loop(), f"http://127.0.0.1:{target.port}", **options)


async def send(pool: Pool, deadline: float = 5.0) -> Reply | Failure:
    done = asyncio.get_running_loop().create_future()
    pool.send(REQUEST, deadline, done.set_result)
    return await asyncio.wait_for(done, 10)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    uvloop.run(coroutine)


def test_connections_are_reused() -> None:
    async def check() -> None:
        async with serving(Target(OK)) as target:
            pool = pool_for(target)
            for _ in range(3):
                assert await send(pool) == Reply(200, b"text/x", b"x-mine: 1\r\n", b"ok")
            assert (target.connections, target.requests) == (1, 3)

    run(check())


def test_connection_close_is_obeyed() -> None:
    async def check() -> None:
        async with serving(Target(OK.replace(b"x-mine: 1", b"connection: close"))) as target:
            pool = pool_for(target)
            for _ in range(3):
                assert await send(pool) == Reply(200, b"text/x", b"", b"ok")
            assert target.connections == 3
            await until(lambda: not pool.open)

    run(check())


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.0 200 OK\r\ncontent-type: text/x\r\n\r\nok", b"HTTP/1.1 200 OK\r\ncontent-type: text/x\r\n\r\nok"],
)
def test_the_end_of_the_connection_can_end_the_body(answer: bytes) -> None:
    async def check() -> None:
        async with serving(Target(answer, close=True)) as target:
            assert await send(pool_for(target)) == Reply(200, b"text/x", b"", b"ok")

    run(check())


def test_an_answer_that_is_cut_off_is_none() -> None:
    async def check() -> None:
        async with serving(Target(OK[:-1], close=True)) as target:
            outcome = await send(pool_for(target))
            assert isinstance(outcome, Failure)
            assert outcome.why == "transport"

    run(check())


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"\x00" * 100, b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"])
def test_garbage_is_a_failure(answer: bytes) -> None:
    async def check() -> None:
        async with serving(Target(answer)) as target:
            outcome = await send(pool_for(target))
            assert isinstance(outcome, Failure)
            assert outcome.message.startswith("malformed HTTP")

    run(check())


def test_an_interim_answer_is_not_the_answer() -> None:
    async def check() -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\ncontent-type: text/early\r\n\r\n"
        async with serving(Target(early + OK)) as target:
            pool = pool_for(target)
            assert await send(pool) == Reply(200, b"text/x", b"x-mine: 1\r\n", b"ok")
            assert await send(pool) == Reply(200, b"text/x", b"x-mine: 1\r\n", b"ok")
            assert target.connections == 1

    run(check())


@pytest.mark.parametrize("more", [OK, b"garbage"])
def test_a_connection_that_says_more_than_it_was_asked_is_not_used_again(more: bytes) -> None:
    async def check() -> None:
        async with serving(Target(OK + more)) as target:
            pool = pool_for(target)
            for _ in range(2):
                assert await send(pool) == Reply(200, b"text/x", b"x-mine: 1\r\n", b"ok")
            assert target.connections == 2

    run(check())


def test_an_idle_connection_that_was_closed_is_no_fault() -> None:
    async def check() -> None:
        async with serving(Target(OK, close=True)) as target:
            pool = pool_for(target)
            outcomes = [await send(pool) for _ in range(20)]
            assert all(isinstance(o, Reply) for o in outcomes)

    run(check())


def test_a_target_that_hangs_fails_at_the_deadline_and_leaves_nothing_open() -> None:
    async def check() -> None:
        async with serving(Target(b"")) as target:
            pool = pool_for(target)
            outcomes = await asyncio.gather(*(send(pool, 0.05) for _ in range(8)))
            assert {o.why for o in outcomes if isinstance(o, Failure)} == {"deadline"}
            await until(lambda: not pool.open)

    run(check())


def test_a_connection_that_is_never_made_holds_no_place() -> None:
    async def check() -> None:
        with socket.socket() as deaf:  # its queue is full: further connections stay half open
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            address = deaf.getsockname()
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            pool = Pool(asyncio.get_running_loop(), f"http://127.0.0.1:{address[1]}")
            outcomes = await asyncio.gather(*(send(pool, 0.1) for _ in range(4)))
            assert all(isinstance(o, Failure) and o.why == "deadline" for o in outcomes)
            await until(lambda: not pool.open)
            for filler in fillers:
                filler.close()

    run(check())


def test_a_refused_connection_is_a_transport_failure() -> None:
    async def check() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            pool = Pool(asyncio.get_running_loop(), f"http://127.0.0.1:{closed.getsockname()[1]}")
            outcome = await send(pool)
            assert isinstance(outcome, Failure)
            assert outcome.why == "transport"
            assert pool.open == 0

    run(check())


def test_more_forwards_than_connections_are_busy_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "MAX_CONNECTIONS", 2)

    async def check() -> None:
        async with serving(Target(b"")) as target:
            pool = pool_for(target)
            outcomes = await asyncio.gather(*(send(pool, 0.2) for _ in range(3)))
            assert sorted(o.why for o in outcomes if isinstance(o, Failure)) == ["busy", "deadline", "deadline"]

    run(check())


def test_connections_live_no_longer_than_their_time_even_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "LIFE_SECONDS", 0.05)

    async def check() -> None:
        async with serving(Target(OK)) as target:
            pool = pool_for(target)
            assert isinstance(await send(pool), Reply)
            await until(lambda: not pool.open)
            assert isinstance(await send(pool), Reply)
            assert target.connections == 2

    run(check())


def test_a_closed_pool_keeps_no_connection() -> None:
    async def check() -> None:
        async with serving(Target(OK)) as target:
            pool = pool_for(target)
            assert isinstance(await send(pool), Reply)
            pool.close()
            await until(lambda: not pool.open)

    run(check())


def test_an_https_target_is_trusted_by_its_authority_only(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    named = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", *made, *named], check=True, capture_output=True)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(cert, key)
    ours = ssl.create_default_context(cafile=str(cert))

    async def check() -> None:
        async with serving(Target(OK), theirs) as target:
            loop, url = asyncio.get_running_loop(), f"https://localhost:{target.port}"
            assert isinstance(await send(Pool(loop, url, ours)), Reply)
            outcome = await send(Pool(loop, url))
            assert isinstance(outcome, Failure)
            assert outcome.why == "transport"
            assert "CERTIFICATE_VERIFY_FAILED" in outcome.message

    run(check())
