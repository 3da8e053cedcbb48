"""`/metrics`: OpenMetrics for who asks for it, else Prometheus' text format; written from the same sums as `/stats`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from homeostat.api.wire.bundle import Baseline
from homeostat.server.counting.counters import (
    BATCH_BOUNDS,
    CODES,
    DROPPED,
    LATENCY_BOUNDS,
    OUTCOMES,
    PROTOCOLS,
    REFUSALS,
    TRACKS,
    TURNED_AWAY,
)
from homeostat.server.counting.view import Exemplar, Pod, View

TEXT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
OPEN_TYPE: Final = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
Exemplars = Mapping[tuple[int, int], Exemplar]


@dataclass(frozen=True, slots=True)
class Now:
    """The pod at the moment of a scrape. exemplars: by track's place and latency bucket."""

    view: View
    ready: bool
    restarts: int
    workers: int = 1
    tls_problem: bool = False
    exemplars: Exemplars = field(default_factory=dict)


class Exposition:
    """The metrics of one pod. What does not change from scrape to scrape is written once. feature_bins: features by cell too."""

    def __init__(self, pod: Pod, *, feature_bins: bool) -> None:
        self._pod = pod
        self._model = f'model="{_escaped(pod.model)}"'
        self._mine = f'{self._model},version="{_escaped(pod.version)}"'
        self._bins = _bin_names(self._mine, pod.baseline) if feature_bins and pod.baseline else []

    def write(self, now: Now, *, open_metrics: bool) -> bytes:
        """All of them; labels `model` and `version` are on each sample."""
        lines: list[str] = []
        for name, kind, text, samples in self._families(now, open_metrics=open_metrics):
            family = name.removesuffix("_total") if open_metrics else name
            lines += (f"# HELP {family} {text}", f"# TYPE {family} {kind}")
            lines += samples
        if open_metrics:
            lines.append("# EOF")
        return ("\n".join(lines) + "\n").encode()

    def _families(self, now: Now, *, open_metrics: bool) -> Iterator[tuple[str, str, str, Iterable[str]]]:
        """Name, kind, help and samples of each metric."""
        mine, counts = self._mine, now.view.counts
        yield from self._requests(now, open_metrics=open_metrics)
        for name, text, number in (
            ("homeostat_cache_hits_total", "Rows that the prediction cache answered.", counts["cache"][0]),
            ("homeostat_cache_misses_total", "Rows that the prediction cache did not have.", counts["cache"][1]),
            ("homeostat_inference_terminated_total", "Calls that the deadline ended.", counts["terminated"][0]),
            ("homeostat_worker_restarts_total", "Workers that ended and were started again.", now.restarts),
        ):
            yield name, "counter", text, (f"{name}{{{mine}}} {number}",)
        for name, text, number in (
            ("homeostat_queue_depth", "Rows that wait for the model.", now.view.queued),
            ("homeostat_connections", "Open client connections.", now.view.connections),
            ("homeostat_ready", "1 when the pod takes requests.", int(now.ready)),
            ("homeostat_workers", "Workers that serve.", now.workers),
            ("homeostat_tls_stale", "1 while a new certificate cannot be used.", int(now.tls_problem)),
        ):
            yield name, "gauge", text, (f"{name}{{{mine}}} {number}",)
        name = "homeostat_dropped_total"
        yield name, "counter", "What did not fit a bounded buffer.", _by(name, mine, "what", DROPPED, counts["dropped"])
        yield from self._sides(now.view)
        yield from self._cells(now.view)

    def _requests(self, now: Now, *, open_metrics: bool) -> Iterator[tuple[str, str, str, Iterable[str]]]:
        view, mine = now.view, self._mine
        name = "homeostat_requests_total"
        yield name, "counter", "Inference requests answered by this pod's model.", _requests(name, mine, view)
        name = "homeostat_requests_refused_total"
        samples = _by(name, mine, "reason", TURNED_AWAY, view.counts["turned_away"])
        yield name, "counter", "Requests that a bound turned away, by what it bounds.", samples
        name, lines = "homeostat_request_duration_seconds", list[str]()
        for i, track in enumerate(TRACKS):
            if view.rows[i]:
                marks = _marks(now.exemplars, i) if open_metrics else None
                seconds = view.counts["latency_ns"][i] / 1e9
                labels = f'{mine},track="{track}"'
                lines += _histogram(name, labels, LATENCY_BOUNDS, view.latency_of(track), total=seconds, marks=marks)
        yield name, "histogram", "Time of a request inside the server.", lines
        name, seconds = "homeostat_inference_duration_seconds", view.counts["inference_ns"][0] / 1e9
        samples = _histogram(name, mine, LATENCY_BOUNDS, view.counts["inference"], total=seconds)
        yield name, "histogram", "Time of one call of ONNX Runtime.", samples
        name = "homeostat_batch_rows"
        samples = _histogram(name, mine, BATCH_BOUNDS, view.counts["batches"], total=view.counts["batch_rows"][0])
        yield name, "histogram", "Rows of one call of ONNX Runtime.", samples

    def _sides(self, view: View) -> Iterator[tuple[str, str, str, Iterable[str]]]:
        """Counters whose `version` is the side's or the prediction's, not always this pod's."""
        name = "homeostat_forwards_total"
        yield name, "counter", "Requests received here, by the side drawn for them.", self._forwards(name, view)
        name, lines = "homeostat_agreement_total", list[str]()
        for version, one in view.agreement.items():
            lines += _by(name, self._of(version), "outcome", *_columns(one.model_dump()))
        yield name, "counter", "Mirrored requests, by how the mirror's answer compared.", lines
        name, lines = "homeostat_feedback_total", list[str]()
        for version, labels in view.feedback.items():
            outcomes = {"right": labels.labels - labels.wrong, "wrong": labels.wrong}
            lines += _by(name, self._of(version), "outcome", *_columns(outcomes))
        yield name, "counter", "Labels that arrived, by the version that predicted.", lines
        name, lines = "homeostat_feedback_bin_total", list[str]()
        for version, labels in view.feedback.items():
            for cell, (all_, positive) in enumerate(zip(labels.labels_by_cell, labels.positives_by_cell, strict=True)):
                by_label = {"positive": positive, "negative": all_ - positive}
                lines += _by(name, f'{self._of(version)},bin="{cell}"', "label", *_columns(by_label)) if all_ else ()
        yield name, "counter", "Labels by score cell of their prediction.", lines
        name = "homeostat_feedback_squared_error_total"
        errors = [(self._of(v), one.squared_error) for v, one in view.feedback.items() if one.squared_error is not None]
        lines = [f"{name}{{{labels}}} {error}" for labels, error in errors]
        yield name, "counter", "Sum of squared errors of predictions that have a label.", lines
        name = "homeostat_feedback_refused_total"
        samples = _by(name, self._mine, "reason", REFUSALS, view.counts["refused"])
        yield name, "counter", "Labels that count for nothing, by reason.", samples

    def _forwards(self, name: str, view: View) -> Iterator[str]:
        """By lane where requests had a sticky key; those without one have no lane."""
        for version, side in view.forwards.items():
            for i, outcome in enumerate(OUTCOMES):
                labels = f'{self._of(version)},outcome="{outcome}"'
                by_lane = [lane[i] for lane in side.lanes]
                yield f"{name}{{{labels}}} {(side.ok, side.failed, side.busy)[i] - sum(by_lane)}"
                for lane, count in enumerate(by_lane):
                    yield f'{name}{{{labels},lane="{lane}"}} {count}'

    def _cells(self, view: View) -> Iterator[tuple[str, str, str, Iterable[str]]]:
        name, lines, predictions = "homeostat_prediction_bin_total", list[str](), view.predictions
        for i, track in enumerate(TRACKS):
            if view.rows[i]:
                cells = [str(cell) for cell in range(len(predictions[track]))]
                lines += _by(name, f'{self._mine},track="{track}"', "bin", cells, predictions[track])
        yield name, "counter", "Rows by score cell of the baseline.", lines
        if self._bins:
            counted = map(str, view.binned["cells"])
            samples = map(str.__add__, self._bins, counted)
            yield "homeostat_feature_bin_total", "counter", "Rows by feature and cell of the baseline.", samples

    def _of(self, version: str) -> str:
        return f'{self._model},version="{_escaped(version)}"'


def _requests(name: str, mine: str, view: View) -> Iterator[str]:
    for place, protocol in enumerate(PROTOCOLS):
        for i, track in enumerate(TRACKS):
            for code, count in zip(CODES, view.codes_of(place, i), strict=True):
                if count:
                    labels = f'{mine},track="{track}",protocol="{protocol}",code="{code or "other"}"'
                    yield f"{name}{{{labels}}} {count}"


def _bin_names(mine: str, baseline: Baseline) -> list[str]:
    """Each sample of a feature's cells, up to its number."""
    names = []
    for feature in baseline.features:
        cells = [*map(str, range(len(feature.counts) - 2)), "nan", "other"]
        labels = f'{mine},feature="{_escaped(feature.name)}"'
        names += [f'homeostat_feature_bin_total{{{labels},bin="{cell}"}} ' for cell in cells]
    return names


def _columns(counts: Mapping[str, int]) -> tuple[Sequence[str], Sequence[int]]:
    return list(counts), list(counts.values())


def _by(name: str, labels: str, label: str, values: Sequence[str], counts: Sequence[int]) -> list[str]:
    """One sample per value of a label."""
    return [f'{name}{{{labels},{label}="{v}"}} {count}' for v, count in zip(values, counts, strict=True)]


def _marks(exemplars: Exemplars, track: int) -> list[str]:
    """What OpenMetrics adds to each bucket: the trace of its newest traced request."""
    found = [exemplars.get((track, bucket)) for bucket in range(len(LATENCY_BOUNDS) + 1)]
    return [f' # {{trace_id="{e.trace}"}} {e.seconds} {e.at:.3f}' if e else "" for e in found]


def _histogram(
    name: str,
    labels: str,
    bounds: Sequence[float],
    counts: Sequence[int],
    *,
    total: float,
    marks: Sequence[str] | None = None,
) -> list[str]:
    sums = list(accumulate(counts))
    edges = [*(str(float(bound)) for bound in bounds), "+Inf"]
    buckets = zip(edges, sums, marks or [""] * len(sums), strict=True)
    lines = [f'{name}_bucket{{{labels},le="{bound}"}} {count}{mark}' for bound, count, mark in buckets]
    return [*lines, f"{name}_sum{{{labels}}} {total}", f"{name}_count{{{labels}}} {sums[-1]}"]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
