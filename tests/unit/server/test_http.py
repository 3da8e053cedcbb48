"""Bounds of one connection, without a network."""

from collections.abc import Callable
from unittest.mock import Mock

from homeostat.server.transport.exchange import Limits
from homeostat.server.transport.http import Connection, Server

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def _connected(turns: list[Callable[[], None]] | None = None, **limits: float) -> tuple[Connection, Mock]:
    """turns: gets what is to be called in the next turn of the loop."""
    later = [].append if turns is None else turns.append
    server = Server(lambda e: e.respond(200, b""), Limits(**limits), later=later)
    connection, transport = Connection(server), Mock()
    transport.is_closing.return_value = False
    connection.connection_made(transport)
    return connection, transport


def test_frames_of_chunks_are_bounded() -> None:
    connection, transport = _connected()
    connection.data_received(HEAD)
    for _ in range(50):
        connection.data_received(b"1;%b\r\n{\r\n" % (b"x" * 20) * 100)
    assert transport.write.call_args.args[0].startswith(b"HTTP/1.1 400 ")
    connection.connection_lost(None)
    assert connection.server.bodies == 0


def test_reading_goes_on_only_when_the_client_takes_its_answers() -> None:
    connection, transport = _connected(body_seconds=5)
    connection.pause_writing()
    connection.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
    transport.resume_reading.assert_not_called()
    connection.resume_writing()
    transport.resume_reading.assert_called_once()
    connection.pause_writing()
    connection.check_time(1e12)
    transport.abort.assert_called_once()


def test_a_client_that_asks_much_at_once_and_takes_nothing_is_not_answered_ahead() -> None:
    turns: list[Callable[[], None]] = []
    connection, transport = _connected(turns)
    transport.write.side_effect = lambda _: transport.write.call_count == 10 and connection.pause_writing()
    connection.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 5000)
    assert 10 <= transport.write.call_count < 500
    assert not turns
    connection.resume_writing()
    while turns:
        turns.pop()()
    assert transport.write.call_count == 5000
    transport.resume_reading.assert_called_once()


def test_a_client_that_asks_much_at_once_lets_others_be_served_in_between() -> None:
    turns: list[Callable[[], None]] = []
    connection, transport = _connected(turns)
    connection.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 5000)
    assert transport.write.call_count < 500
    taken = 1
    while turns:
        turns.pop()()
        taken += 1
    assert transport.write.call_count == 5000
    assert taken > 10
    transport.resume_reading.assert_called_once()
