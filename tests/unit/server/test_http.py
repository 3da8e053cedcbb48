"""Bounds of one connection, without a network."""

from unittest.mock import Mock

from homeostat.server.http import Connection, Limits, Server

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def _connected(**limits: float) -> tuple[Connection, Mock]:
    connection, transport = Connection(Server(lambda e: e.respond(200, b""), Limits(**limits))), Mock()
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
    connection, transport = _connected()
    transport.write.side_effect = lambda _: transport.write.call_count == 10 and connection.pause_writing()
    connection.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 5000)
    assert 10 <= transport.write.call_count < 500
    connection.resume_writing()
    assert transport.write.call_count == 5000
    transport.resume_reading.assert_called_once()
