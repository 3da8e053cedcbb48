"""`/metrics` in Prometheus' text format, written from the same sums as `/stats`."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from homeostat.server.counters import BATCH_BOUNDS, CODES, LATENCY_BOUNDS, REFUSALS, TRACKS
from homeostat.server.view import Pod, View

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def exposition(pod: Pod, view: View, *, ready: bool, restarts: int) -> bytes:
    """All metrics of this pod; labels `model` and `version` are on each sample."""
    mine = f'model="{_escaped(pod.model)}",version="{_escaped(pod.version)}"'
    lines = [
        *_head("homeostat_requests_total", "counter", "Inference requests answered by this pod's model."),
        *_requests(mine, view),
        *_head("homeostat_request_duration_seconds", "histogram", "Time of a request inside the server."),
    ]
    for i, track in enumerate(TRACKS):
        if view.rows[i]:
            labels = f'{mine},track="{track}"'
            counts, seconds = view.latency_of(track), view.latency_ns[i] / 1e9
            lines += _histogram("homeostat_request_duration_seconds", labels, LATENCY_BOUNDS, counts, seconds)
    lines += _head("homeostat_inference_duration_seconds", "histogram", "Time of one call of ONNX Runtime.")
    lines += _histogram(
        "homeostat_inference_duration_seconds", mine, LATENCY_BOUNDS, view.inference, view.inference_ns / 1e9
    )
    lines += _head("homeostat_batch_rows", "histogram", "Rows of one call of ONNX Runtime.")
    lines += _histogram("homeostat_batch_rows", mine, BATCH_BOUNDS, view.batches, view.batch_rows)
    lines += _head("homeostat_queue_depth", "gauge", "Rows that wait for the model.")
    lines.append(f"homeostat_queue_depth{{{mine}}} {view.queued}")
    lines += _head("homeostat_connections", "gauge", "Open client connections.")
    lines.append(f"homeostat_connections{{{mine}}} {view.connections}")
    lines += _head("homeostat_ready", "gauge", "1 when the pod takes requests.")
    lines.append(f"homeostat_ready{{{mine}}} {int(ready)}")
    lines += _head("homeostat_worker_restarts_total", "counter", "Workers that ended and were started again.")
    lines.append(f"homeostat_worker_restarts_total{{{mine}}} {restarts}")
    lines += _sides(pod, view)
    lines += _predictions(mine, view)
    return ("\n".join(lines) + "\n").encode()


def _requests(mine: str, view: View) -> Iterable[str]:
    for track in TRACKS:
        for code, count in zip(CODES, view.codes_of(track), strict=True):
            if count:
                labels = f'{mine},track="{track}",protocol="rest",code="{code or "other"}"'
                yield f"homeostat_requests_total{{{labels}}} {count}"


def _sides(pod: Pod, view: View) -> Iterable[str]:
    """Counters whose `version` is the side's or the prediction's, not always this pod's."""
    model = f'model="{_escaped(pod.model)}"'
    yield from _head("homeostat_forwards_total", "counter", "Requests received here, by the side drawn for them.")
    for version, outcomes in view.forwards.items():
        for outcome, count in outcomes.model_dump().items():
            labels = f'{model},version="{_escaped(version)}",outcome="{outcome}"'
            yield f"homeostat_forwards_total{{{labels}}} {count}"
    yield from _head("homeostat_feedback_total", "counter", "Labels that arrived, by the version that predicted.")
    for version, feedback in view.feedback.items():
        for outcome, count in (("right", feedback.labels - feedback.wrong), ("wrong", feedback.wrong)):
            labels = f'{model},version="{_escaped(version)}",outcome="{outcome}"'
            yield f"homeostat_feedback_total{{{labels}}} {count}"
    yield from _head("homeostat_feedback_refused_total", "counter", "Labels that count for nothing, by reason.")
    for reason, count in zip(REFUSALS, view.refused, strict=True):
        yield f'homeostat_feedback_refused_total{{{model},version="{_escaped(pod.version)}",reason="{reason}"}} {count}'


def _predictions(mine: str, view: View) -> Iterable[str]:
    yield from _head("homeostat_prediction_bin_total", "counter", "Rows by score cell of the baseline.")
    for i, track in enumerate(TRACKS):
        if view.rows[i]:
            for cell, count in enumerate(view.predictions[track]):
                yield f'homeostat_prediction_bin_total{{{mine},track="{track}",bin="{cell}"}} {count}'


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _histogram(name: str, labels: str, bounds: Sequence[float], counts: Sequence[int], total: float) -> Iterable[str]:
    sums = list(accumulate(counts))
    for bound, count in zip([*map(str, bounds), "+Inf"], sums, strict=True):
        yield f'{name}_bucket{{{labels},le="{bound}"}} {count}'
    yield f"{name}_sum{{{labels}}} {total}"
    yield f"{name}_count{{{labels}}} {sums[-1]}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
