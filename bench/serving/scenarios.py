"""Side by side with the rivals: JSON, named columns of mixed types, binary tensors, gRPC; and our own statistics on and off."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
from bench.serving import models, servers, venvs, wire
from bench.serving.measure import Load, Measured, Options, Rival, believed, in_turns, once, once_grpc, together
from bench.serving.models import Model, Rows
from bench.serving.report import Row, Value, ratio, row
from bench.serving.servers import OWN, Server
from deploy.local.progress import Problem
from numpy.typing import NDArray

BODIES: Final = 64  # different requests in turn, so that nobody profits from a cache
BLOCK: Final = 256  # rows of a request with binary tensors
TOLERANCE: Final = 1e-5
MLSERVER: Final = f"MLServer {venvs.version('mlserver', 'mlserver')}"
MLSERVER_DEFAULT: Final = f"{MLSERVER}, parallel_workers 1"
KSERVE: Final = f"KServe {venvs.version('kserve', 'kserve')}"
PYTRITON: Final = f"PyTriton {venvs.version('pytriton', 'nvidia-pytriton')}"
FASTAPI: Final = f"FastAPI {venvs.version('fastapi', 'fastapi')} + ONNX Runtime"
ECHO: Final = "bare echo"


@dataclass
class Table:
    """Rows of one scenario from what was measured; who is missing has no value."""

    scenario: str
    found: Mapping[str, Measured]
    rows: list[Row] = field(default_factory=list)

    def get(self, name: str, what: str = "rate") -> Value:
        one = self.found.get(name)
        return None if one is None else float(getattr(one, what))

    def rates(self, names: Sequence[str], unit: str = "requests/s", per: int = 1) -> None:
        """A rate and the CPU time of each; per: rows of a request."""
        for name in names:
            rate = self.get(name)
            self.rows.append(row(self.scenario, name, None if rate is None else rate * per, unit))
        for name in names:
            self.times(name, "p99", "ms", 1e3)
        for name in names:
            self.times(name, "cpu", "µs", 1e6)

    def times(self, name: str, what: str, unit: str, scale: float) -> None:
        value, words = self.get(name, what), {"cpu": "CPU time of a request"}.get(what, what)
        self.rows.append(row(self.scenario, f"{words}, {name}", None if value is None else value * scale, unit))

    def against(self, what: str, value: Value, sign: str, bound: float) -> None:
        """A figure with what is to be reached."""
        self.rows.append(row(self.scenario, what, value, sign=sign, bound=bound))

    def faster(self, other: str, times: float) -> None:
        """Our rate over another's."""
        self.against(f"{OWN} over {other}", ratio(self.get(OWN), self.get(other)), ">=", times)


def single(rows: Rows) -> Iterator[Rows]:
    """Each row alone."""
    for i in range(len(rows.numbers)):
        yield Rows(rows.numbers[i : i + 1], rows.strings[i : i + 1])


def check(
    answer: Callable[[Server, int], NDArray[np.float32]], wanted: Sequence[NDArray[np.float32]]
) -> Callable[[Server], None]:
    """A check that three answers are ONNX Runtime's own."""

    def checked(server: Server) -> None:
        for i in (0, 1, len(wanted) - 1):
            try:
                got = answer(server, i)
            except (KeyError, ValueError, StopIteration) as error:
                raise Problem(f"{server.label}: an answer without scores: {error!r}", f"see {server.log}") from error
            if got.shape != wanted[i].shape or not np.allclose(got, wanted[i], rtol=TOLERANCE, atol=TOLERANCE):
                raise Problem(
                    f"{server.label} answers {got[0]} where the model says {wanted[i][0]}", f"see {server.log}"
                )

    return checked


def _json_check(model: Model, rows: Sequence[Rows], requests: Sequence[bytes]) -> Callable[[Server], None]:
    wanted = [model.scores(r) for r in rows]
    return check(lambda server, i: wire.scores_of_json(once(server, requests[i])[1]), wanted)


def _grpc_check(model: Model, rows: Sequence[Rows], messages: Sequence[bytes]) -> Callable[[Server], None]:
    wanted = [model.scores(r) for r in rows]
    return check(lambda server, i: wire.scores_of_grpc(once_grpc(server, messages[i])), wanted)


def json_logistic(options: Options) -> list[Row]:
    """JSON, 20 features, logistic regression: all rivals at 32 connections, MLServer at one."""
    model = models.logistic()
    rows = list(single(model.rows(BODIES)))
    requests = [wire.http(wire.json_tensor(r)) for r in rows]
    right = _json_check(model, rows, requests)
    rivals = {
        ECHO: Rival(servers.echo),
        OWN: Rival(partial(servers.ours, model), right),
        FASTAPI: Rival(partial(servers.fastapi, model), right),
        PYTRITON: Rival(partial(servers.pytriton, model), right),
        MLSERVER: Rival(partial(servers.mlserver, model), right),
        MLSERVER_DEFAULT: Rival(partial(servers.mlserver_default, model), right),
        KSERVE: Rival(partial(servers.kserve, model), right),
    }
    with together(rivals) as running:
        many = dict.fromkeys(running, Load(requests, 32))
        found = in_turns(running, many, options, "JSON, logistic regression, 32 connections")
        two = {n: s for n, s in running.items() if n in {OWN, MLSERVER}}
        alone = in_turns(two, dict.fromkeys(two, Load(requests, 1)), options, "the same, one connection")
    table = Table("JSON, 20 numbers, logistic regression", found)
    table.rates(tuple(rivals))
    for other, times in ((MLSERVER, 20), (KSERVE, 20), (PYTRITON, 12), (FASTAPI, 5)):
        table.faster(other, times)
    table.against("share of the bare echo", ratio(table.get(OWN), table.get(ECHO)), ">=", 0.45)
    cpu = ratio(table.get(ECHO, "cpu"), table.get(OWN, "cpu"))
    table.rows.append(row(table.scenario, "share of the bare echo by CPU time of a request", cpu))
    p99 = ratio(table.get(OWN, "p99"), table.get(MLSERVER, "p99"))
    table.against("p99 at 32 connections over MLServer's", p99, "<=", 0.5)
    one = Table(table.scenario, alone)
    for name in (OWN, MLSERVER):
        value = one.get(name, "p50")
        text = f"p50 at one connection, {name}"
        table.rows.append(row(table.scenario, text, None if value is None else value * 1e3, "ms"))
    p50 = ratio(one.get(OWN, "p50"), one.get(MLSERVER, "p50"))
    table.against("p50 at one connection over MLServer's", p50, "<=", 0.3333)
    return table.rows


def boosting(options: Options) -> list[Row]:
    """Named columns, gradient boosting."""
    return _mixed("JSON, mixed named columns, gradient boosting of 100 trees", models.boosting(), options)


def network(options: Options) -> list[Row]:
    """Named columns, a neural network."""
    return _mixed("JSON, mixed named columns, MLP 256×256", models.network(), options)


def _mixed(scenario: str, model: Model, options: Options) -> list[Row]:
    rows = list(single(model.rows(BODIES)))
    requests = [wire.http(wire.json_columns(model, r)) for r in rows]
    right = _json_check(model, rows, requests)
    rivals = {
        ECHO: Rival(servers.echo),
        OWN: Rival(partial(servers.ours, model), right),
        MLSERVER: Rival(partial(servers.mlserver, model), right),
    }
    with together(rivals) as running:
        found = in_turns(running, dict.fromkeys(running, Load(requests, 32)), options, scenario)
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {servers.cores()[0]})
        runtime = model.seconds_per_row()
        os.sched_setaffinity(0, everywhere)
    table = Table(scenario, found)
    table.rates(tuple(rivals))
    table.faster(MLSERVER, 10)
    table.against("p99 over MLServer's", ratio(table.get(OWN, "p99"), table.get(MLSERVER, "p99")), "<=", 1)
    table.rows.append(row(scenario, "ONNX Runtime's own time of a row, in batches of 32", runtime * 1e6, "µs"))
    own, bare = table.get(OWN), table.get(ECHO)
    limit = None if bare is None else 1 / bare + runtime
    table.against("time of a request over bare echo + ONNX Runtime", ratio(ratio(1, own), limit), "<=", 1.8)
    own, bare = table.get(OWN, "cpu"), table.get(ECHO, "cpu")
    text = "CPU time of a request over bare echo's + ONNX Runtime's"
    table.rows.append(row(scenario, text, ratio(own, None if bare is None else bare + runtime)))
    return table.rows


def binary(options: Options) -> list[Row]:
    """256 rows a request: our binary tensors against MLServer's best way of the same rows (it has none over HTTP)."""
    scenario = f"Binary tensors, {BLOCK} rows a request"
    model = models.logistic()
    rows = [model.rows(BLOCK, seed=s) for s in range(BODIES)]
    wanted = [model.scores(r) for r in rows]
    binaries, texts = [wire.binary_tensor(r) for r in rows], [wire.http(wire.json_tensor(r)) for r in rows]
    messages = [wire.grpc_message(r) for r in rows]
    by_http = (check(lambda s, i: wire.scores_of_binary(*once(s, binaries[i])), wanted), Load(binaries, 8))
    by_json = (_json_check(model, rows, texts), Load(texts, 8))
    by_grpc = (_grpc_check(model, rows, messages), Load(messages, 8, 1))
    own, own_grpc, own_json = f"{OWN}, HTTP binary", f"{OWN}, gRPC raw", f"{OWN}, JSON"
    other_grpc, other_json = f"{MLSERVER}, gRPC raw", f"{MLSERVER}, JSON"
    ways = {
        own: (OWN, *by_http),
        own_grpc: (OWN, *by_grpc),
        own_json: (OWN, *by_json),
        f"{PYTRITON}, HTTP binary": (PYTRITON, *by_http),
        other_grpc: (MLSERVER, *by_grpc),
        other_json: (MLSERVER, *by_json),
    }
    starters = {OWN: servers.ours, PYTRITON: servers.pytriton, MLSERVER: servers.mlserver}
    with together({n: Rival(partial(s, model)) for n, s in starters.items()}) as running:
        able = {n: running[s] for n, (s, right, _) in ways.items() if s in running and believed(running[s], right, n)}
        found = in_turns(able, {n: load for n, (_, _, load) in ways.items()}, options, scenario)
    table = Table(scenario, found)
    table.rates(tuple(ways), "rows/s", BLOCK)
    best = max((table.get(other_json) or 0.0, table.get(other_grpc) or 0.0))
    table.against(f"{own} over {MLSERVER}'s best", ratio(table.get(own), best), ">=", 3)
    table.against(f"{own_grpc} over {MLSERVER}'s best", ratio(table.get(own_grpc), best), ">=", 3)
    return table.rows


def grpc(options: Options) -> list[Row]:
    """gRPC: 32 streams on 8 connections, one row each, raw contents."""
    scenario = "gRPC, 32 streams on 8 connections"
    model = models.logistic()
    rows = list(single(model.rows(BODIES)))
    messages = [wire.grpc_message(r) for r in rows]
    right = _grpc_check(model, rows, messages)
    rivals = {
        "bare HTTP/2 frame echo": Rival(servers.http2_echo),
        "bare echo, grpcio threads": Rival(servers.grpc_threads_echo),
        "bare echo, grpc.aio": Rival(servers.grpc_aio_echo),
        OWN: Rival(partial(servers.ours, model), right),
        PYTRITON: Rival(partial(servers.pytriton, model), right),
        KSERVE: Rival(partial(servers.kserve, model), right),
        MLSERVER: Rival(partial(servers.mlserver, model), right),
    }
    with together(rivals) as running:
        found = in_turns(running, dict.fromkeys(running, Load(messages, 8, 4)), options, scenario)
    table = Table(scenario, found)
    table.rates(tuple(rivals))
    table.faster(MLSERVER, 2.5)
    return table.rows


def statistics_cost(options: Options) -> list[Row]:
    """Our server with statistics and without, in turns."""
    scenario = "Statistics on against off"
    model = models.logistic()
    requests = [wire.http(wire.json_tensor(r)) for r in single(model.rows(BODIES))]
    on, off = f"{OWN}, statistics on", f"{OWN}, statistics off"
    rivals = {on: Rival(partial(servers.ours, model)), off: Rival(partial(servers.ours, model, "--no-stats"))}
    with together(rivals) as running:
        loads = dict.fromkeys(running, Load(requests, 32))
        found = in_turns(running, loads, options, scenario, 2 * options.rounds)
    table = Table(scenario, found)
    for name in rivals:
        table.rows.append(row(scenario, f"{name}, answers a second", table.get(name), "1/s"))
        table.times(name, "p99", "ms", 1e3)
        table.times(name, "cpu", "µs", 1e6)
    rates = ratio(table.get(on), table.get(off))
    table.against("cost of throughput", None if rates is None else 1 - rates, "<=", 0.05)
    p99 = ratio(table.get(on, "p99"), table.get(off, "p99"))
    table.against("more at p99", None if p99 is None else p99 - 1, "<=", 0.01)
    cpu = ratio(table.get(on, "cpu"), table.get(off, "cpu"))
    table.rows.append(row(scenario, "more CPU time", None if cpu is None else cpu - 1))
    return table.rows
