"""The gRPC port's transport over real sockets, with gRPC's own clients."""

import itertools
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from homeostat.server.protos import inference_pb2 as pb
from homeostat.server.transport import http2_frames as h2
from serving.http2_raw import INFER, STREAM_INFER, Echo, Raw, framed
from serving.pod import eventually

SERVICE = "/inference.GRPCInferenceService/"
Code = grpc.StatusCode
MEBI = 1 << 20


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with Echo(body=16 * MEBI) as server:
        yield server


@pytest.fixture
def channel(echo: Echo) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(echo.address, options=OPTIONS) as made:
        yield made


OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def infer(channel: grpc.Channel, path: str = INFER) -> grpc.UnaryUnaryMultiCallable:
    return channel.unary_unary(path)


def refused(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


class TestClientsOfGrpc:
    def test_a_message_comes_back(self, channel: grpc.Channel) -> None:
        assert infer(channel)(b"hello", timeout=10) == b"hello"
        assert infer(channel)(b"", timeout=10) == b""

    @pytest.mark.parametrize("size", [16379, 16380, 65531, 300_000, 5 * MEBI, 16 * MEBI])
    def test_messages_of_any_size_come_back(self, channel: grpc.Channel, size: int) -> None:
        body = bytes(itertools.islice(itertools.cycle(range(251)), size))
        assert infer(channel)(body, timeout=30) == body

    def test_32_streams_over_8_connections_get_their_own_answers(self, echo: Echo) -> None:
        channels = [
            grpc.insecure_channel(echo.address, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(8)
        ]

        def ask(number: int) -> bool:
            call = infer(channels[number % 8])
            return all(call(b"%d-%d" % (number, turn), timeout=30) == b"%d-%d" % (number, turn) for turn in range(50))

        with ThreadPoolExecutor(32) as pool:
            assert all(pool.map(ask, range(32)))
        for one in channels:
            one.close()

    def test_a_deadline_reaches_the_server_and_ends_the_call(self, channel: grpc.Channel) -> None:
        assert 4.0 < float(infer(channel)(b"timeout?", timeout=5)) <= 5.2
        assert refused(lambda: infer(channel)(b"hold", timeout=0.2)).code() is Code.DEADLINE_EXCEEDED

    def test_a_cancelled_call_is_gone(self, channel: grpc.Channel) -> None:
        before = int(infer(channel)(b"gone?", timeout=10))
        call = infer(channel).future(b"hold")
        infer(channel)(b"after it", timeout=10)
        call.cancel()
        eventually(lambda: int(infer(channel)(b"gone?", timeout=10)) == before + 1, "the server knows that it is gone")

    def test_calls_of_a_closed_connection_are_gone(self, echo: Echo, channel: grpc.Channel) -> None:
        before = int(infer(channel)(b"gone?", timeout=10))
        with Raw(echo.port) as raw:
            raw.ask(1, b"hold")
            raw.ask(3, b"sync")
            raw.answer(3)
        eventually(lambda: int(infer(channel)(b"gone?", timeout=10)) == before + 1, "the server knows that it is gone")

    def test_a_message_that_is_too_large_is_refused_before_it_has_come(self, channel: grpc.Channel) -> None:
        error = refused(lambda: infer(channel)(b"x" * (20 * MEBI), timeout=30))
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert error.details() == f"the message is larger than {16 * MEBI} bytes"
        assert infer(channel)(b"and on", timeout=10) == b"and on"

    @pytest.mark.parametrize("how", [grpc.Compression.Gzip, grpc.Compression.Deflate])
    def test_compressed_messages_are_read(self, channel: grpc.Channel, how: grpc.Compression) -> None:
        assert infer(channel)(b"y" * 50_000, timeout=10, compression=how) == b"y" * 50_000

    def test_metadata_comes_as_headers_and_the_answers_headers_as_metadata(self, channel: grpc.Channel) -> None:
        answer, call = infer(channel).with_call(b"head x-tenant", metadata=[("x-tenant", "north")], timeout=10)
        assert answer == b"north"
        assert ("x-homeostat-version", "v7") in call.initial_metadata()

    def test_metadata_that_is_too_large_is_refused(self, channel: grpc.Channel) -> None:
        error = refused(lambda: infer(channel)(b"x", metadata=[("x-much", "y" * 17_000)], timeout=10))
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert infer(channel)(b"and on", timeout=10) == b"and on"

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, Code.INVALID_ARGUMENT),
            (404, Code.NOT_FOUND),
            (413, Code.RESOURCE_EXHAUSTED),
            (415, Code.UNIMPLEMENTED),
            (429, Code.RESOURCE_EXHAUSTED),
            (499, Code.CANCELLED),
            (500, Code.INTERNAL),
            (501, Code.UNIMPLEMENTED),
            (502, Code.UNAVAILABLE),
            (503, Code.UNAVAILABLE),
            (504, Code.DEADLINE_EXCEEDED),
        ],
    )
    def test_problems_have_a_status_and_their_words(self, channel: grpc.Channel, status: Any, code: Any) -> None:
        error = refused(lambda: infer(channel)(b"fail %d" % status, timeout=10))
        assert (error.code(), error.details()) == (code, "wrong: 100 % ünknown\n")
        assert [v for k, v in error.trailing_metadata() if k == "grpc-retry-pushback-ms"] == ["2000"] * (status == 429)
        relayed = refused(lambda: infer(channel)(b"relay %d" % status, timeout=10))
        assert (relayed.code(), relayed.details()) == (code, "said elsewhere")

    def test_a_bug_costs_one_call_only(self, channel: grpc.Channel) -> None:
        other = infer(channel).future(b"other")
        assert refused(lambda: infer(channel)(b"bug", timeout=10)).code() is Code.INTERNAL
        assert other.result(10) == b"other"

    def test_an_unknown_method_is_named(self, channel: grpc.Channel) -> None:
        error = refused(lambda: infer(channel, SERVICE + "ModelGuess")(b"", timeout=10))
        assert error.code() is Code.UNIMPLEMENTED
        assert "ModelGuess" in error.details()
        assert "inference.GRPCInferenceService" in error.details()

    def test_several_messages_in_a_unary_call_are_refused(self, channel: grpc.Channel) -> None:
        call = channel.stream_unary(INFER)
        assert refused(lambda: call(iter([b"one", b"two"]), timeout=10)).code() is Code.INVALID_ARGUMENT
        assert refused(lambda: call(iter([]), timeout=10)).code() is Code.INVALID_ARGUMENT


class TestStreams:
    def test_each_message_is_answered_in_order(self, channel: grpc.Channel) -> None:
        messages = [pb.ModelInferResponse(id=str(n), raw_output_contents=[bytes(40 * n)]) for n in range(500)]
        answers = channel.stream_stream(STREAM_INFER)((m.SerializeToString() for m in messages), timeout=30)
        assert [pb.ModelStreamInferResponse.FromString(a).infer_response for a in answers] == messages

    def test_the_answers_are_those_of_single_calls(self, channel: grpc.Channel) -> None:
        message = pb.ModelInferResponse(model_name="flights", raw_output_contents=[b"x" * 70_000]).SerializeToString()
        [answer] = channel.stream_stream(STREAM_INFER)(iter([message]), timeout=30)
        inner = pb.ModelStreamInferResponse.FromString(answer).infer_response
        assert inner.SerializeToString() == infer(channel)(message, timeout=10)

    def test_an_error_of_one_message_does_not_end_the_stream(self, channel: grpc.Channel) -> None:
        answers = list(channel.stream_stream(STREAM_INFER)(iter([b"fail 400", b"bug", b""]), timeout=10))
        first, second, third = (pb.ModelStreamInferResponse.FromString(a) for a in answers)
        assert first.error_message == "wrong: 100 % ünknown\n"
        assert "failed on this message" in second.error_message
        assert not third.error_message

    def test_a_slow_answer_keeps_the_order_and_too_many_wait_outside(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            raw.open(1, STREAM_INFER)
            raw.send(h2.DATA, 0, 1, b"".join(framed(b"hold") for _ in range(40)) + framed(b""))
            raw.send(h2.DATA, h2.END_STREAM, 1)
            raw.ask(3, b"free")
            raw.answer(3)  # 32 were under way; the 8 others come after them and hold
            raw.ask(5, b"free")
            pairs, data = raw.answer(1)
            assert pairs["grpc-status"] == "0"
            assert data.count(b"freed") == 40
            assert data.endswith(framed(b"\x12\x00"))

    def test_a_cut_off_stream_is_named(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            raw.open(1, STREAM_INFER)
            raw.send(h2.DATA, h2.END_STREAM, 1, framed(b"abc")[:-1])
            assert raw.answer(1)[0]["grpc-status"] == "3"


class TestServices:
    def test_readiness_and_metadata(self, channel: grpc.Channel) -> None:
        def ask(method: str, request: object, kind: type) -> object:
            return kind.FromString(infer(channel, SERVICE + method)(request.SerializeToString(), timeout=10))

        assert ask("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
        assert ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
        assert ask("ModelReady", pb.ModelReadyRequest(name="flights"), pb.ModelReadyResponse).ready
        assert ask("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse).name == "homeostat"
        named = pb.ModelMetadataRequest(name="flights", version="v7")
        model = ask("ModelMetadata", named, pb.ModelMetadataResponse)
        assert (model.name, list(model.versions), model.inputs[0].name) == ("flights", ["v7"], "distance")
        assert list(model.inputs[0].shape) == [-1, 1]

    @pytest.mark.parametrize(
        "asked", [pb.ModelReadyRequest(name="x"), pb.ModelReadyRequest(name="flights", version="v8")]
    )
    def test_another_model_is_not_found(self, channel: grpc.Channel, asked: Any) -> None:
        error = refused(lambda: infer(channel, SERVICE + "ModelReady")(asked.SerializeToString(), timeout=10))
        assert error.code() is Code.NOT_FOUND
        assert "'flights' in version 'v7'" in error.details()

    def test_a_message_that_is_no_message_is_refused(self, channel: grpc.Channel) -> None:
        error = refused(lambda: infer(channel, SERVICE + "ModelReady")(b"\xff\xff", timeout=10))
        assert error.code() is Code.INVALID_ARGUMENT
        assert "inference.ModelReadyRequest" in error.details()

    def test_health_answers_its_own_client(self) -> None:
        with Echo() as echo, grpc.insecure_channel(echo.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            asking, said = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
            for service in ("", "inference.GRPCInferenceService"):
                assert health.Check(asking(service=service), timeout=10).status == said.SERVING
            assert refused(lambda: health.Check(asking(service="x"), timeout=10)).code() is Code.NOT_FOUND
            watch = health.Watch(asking())
            assert next(watch).status == said.SERVING
            assert next(health.Watch(asking(service="x"))).status == said.SERVICE_UNKNOWN
            echo.tell(signal.SIGUSR1)
            eventually(lambda: health.Check(asking(), timeout=10).status == said.NOT_SERVING, "it is not ready")
            assert next(watch).status == said.NOT_SERVING

    def test_reflection_answers_its_own_client(self, channel: grpc.Channel) -> None:
        found = ProtoReflectionDescriptorDatabase(channel)
        assert set(found.get_services()) == {
            "inference.GRPCInferenceService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        service = DescriptorPool(found).FindServiceByName("inference.GRPCInferenceService")
        assert service.FindMethodByName("ModelInfer").input_type.full_name == "inference.ModelInferRequest"
        with pytest.raises(KeyError):
            DescriptorPool(found).FindServiceByName("inference.Nothing")


class TestDrain:
    def test_requests_under_way_and_on_their_way_are_answered_and_then_the_connection_ends(self) -> None:
        with Echo() as echo, Raw(echo.port) as raw, Raw(echo.port) as other:
            raw.ask(1, b"hold")
            raw.ask(3, b"sync")
            raw.answer(3)
            other.ask(1, b"sync")
            other.answer(1)
            echo.tell(signal.SIGTERM)
            assert h2.PAIR.unpack_from(raw.until(h2.GOAWAY)[3]) == (h2.MAX_WINDOW, h2.NO_ERROR)
            raw.ask(5, b"on its way")  # sent before the GOAWAY was read
            _, _, _, payload = raw.until(h2.PING)
            assert raw.answer(5)[1] == framed(b"on its way")
            raw.send(h2.PING, h2.ACK, 0, payload)
            assert h2.PAIR.unpack_from(raw.until(h2.GOAWAY)[3]) == (5, h2.NO_ERROR)
            raw.ask(7, b"too late")  # the client sends it again elsewhere
            other.ask(3, b"free")
            assert raw.answer(1)[1] == framed(b"freed")
            assert raw.frame() is None

    def test_open_streams_end_and_a_grpc_client_loses_no_call(self) -> None:
        with Echo() as echo, grpc.insecure_channel(echo.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            next(watch)
            echo.tell(signal.SIGTERM)  # it still listens, so the client comes back and is asked to go again
            with ThreadPoolExecutor(1) as pool:
                ending = pool.submit(refused, lambda: next(watch))
                calls = 0
                while not ending.done() or calls < 1000:
                    assert infer(channel)(b"x", timeout=5) == b"x"
                    calls += 1
            assert ending.result().code() is Code.UNAVAILABLE
