"""`spec.server` of a ModelDeployment: what its serving pods are told. Each field is an option of `homeostat serve`."""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from homeostat.api.base import ApiModel, Duration, Name, Rule
from homeostat.api.meta import NameRef, Resources

SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
ByteSize = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[1-9][0-9]*(Ki|Mi|Gi)?$")]
Column = Annotated[str, Field(min_length=1, max_length=256)]
Columns = Annotated[tuple[Column, ...], Field(max_length=256)]

_UNITS: Final = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def byte_size(text: str) -> int:
    """Bytes of `16Mi` and the like."""
    return int(text.rstrip("KMGi")) * _UNITS.get(text[-2:], 1)


def _between(field: str, least: str, most: str) -> Rule:
    """A rule that a duration is within bounds."""
    rule = f"!has(self.{field}) || (duration(self.{field}) >= duration('{least}') && duration(self.{field}) <= duration('{most}'))"
    return Rule(rule, f"{field} must be between {least} and {most}", f".{field}")


class SecretKeyRef(ApiModel):
    """One key of a Secret."""

    name: Annotated[Name, Field(description="Name of the Secret, in the same namespace. Example: `flights-ids`.")]
    key: Annotated[SecretKey, Field(description="Key of its data. Example: `key`.")]


class Batching(ApiModel):
    """How rows share a call of the runtime. An answer does not depend on it."""

    max_latency: Annotated[
        Duration | None,
        Field(
            description="How long a row may wait for others, at most `1s`. Default: only rows that came in the same turn of the loop share a call, and none waits. Example: `2ms`."
        ),
    ] = None
    max_rows: Annotated[
        int | None,
        Field(ge=1, le=65536, description="Most rows of one call; bigger requests are split. Default: 1024."),
    ] = None
    cel: ClassVar = (_between("maxLatency", "0s", "1s"),)


class Limits(ApiModel):
    """What a client, or a model, may cost a pod."""

    max_queue_rows: Annotated[
        int | None,
        Field(ge=1, le=1_000_000, description="Rows that may wait in a worker; more is answered 429. Default: 8192."),
    ] = None
    max_wait: Annotated[
        Duration | None,
        Field(
            description="Longest estimated wait with which a request is still taken; else 429 at once, `1ms` to `1h`. Default: `1s`."
        ),
    ] = None
    deadline: Annotated[
        Duration | None,
        Field(
            description="A request that has not begun to run by then is answered 504, `1ms` to `1h`. Default: `30s`."
        ),
    ] = None
    run_time: Annotated[
        Duration | None,
        Field(
            description="One call of the runtime is ended after that and answered 504, `1ms` to `1h`. Default: `30s`."
        ),
    ] = None
    load_time: Annotated[
        Duration | None,
        Field(
            description="Time for checking the model, and again for loading it in a worker; then `LoadTimeout`, `1s` to `1h`. Raise `progressDeadline` with it. Default: `60s`."
        ),
    ] = None
    max_body: Annotated[
        ByteSize | None,
        Field(description="Bytes of a request's body, unpacked; more is answered 413. Default: `16Mi`."),
    ] = None
    max_model: Annotated[
        ByteSize | None,
        Field(description="Bytes of a model that is still loaded; a bigger one is `ModelTooLarge`. Default: `2Gi`."),
    ] = None
    max_connections: Annotated[
        int | None,
        Field(ge=1, le=100_000, description="Connections of clients per worker; more is answered 503. Default: 4096."),
    ] = None
    cel: ClassVar = (
        _between("maxWait", "1ms", "1h"),
        _between("deadline", "1ms", "1h"),
        _between("runTime", "1ms", "1h"),
        _between("loadTime", "1s", "1h"),
    )


class Cache(ApiModel):
    """Predictions that are remembered, by the model's digest and the row's bytes; never across versions."""

    rows: Annotated[
        int, Field(ge=1, le=10_000_000, description="Rows that each worker remembers, 64 MiB at most. Example: 10000.")
    ]
    ttl: Annotated[
        Duration | None,
        Field(description="How long a prediction is given again, `1s` to `24h`. Default: `5m`."),
    ] = None
    cel: ClassVar = (_between("ttl", "1s", "24h"),)


class Tls(ApiModel):
    """TLS of the serving ports, REST and gRPC, from a Secret that the pods mount. A renewed certificate restarts nothing."""

    secret_ref: Annotated[
        NameRef,
        Field(
            description="Secret of type `kubernetes.io/tls` in the same namespace: `tls.crt`, `tls.key`. The operator never reads it. Example: `{name: flights-tls}`."
        ),
    ]
    client_ca_secret_ref: Annotated[
        SecretKeyRef | None,
        Field(
            description="Clients must show a certificate of these authorities (PEM). Default: none is asked for. Example: `{name: clients, key: ca.crt}`."
        ),
    ] = None
    admin: Annotated[
        bool,
        Field(
            description="The admin port (`/metrics`, `/stats`, probes) speaks TLS too, without client certificates. The operator and the kubelet then read it without checking who answers. Default: false."
        ),
    ] = False


class FeedbackOptions(ApiModel):
    """Labels that come later, at `/feedback`."""

    key_secret_ref: Annotated[
        SecretKeyRef | None,
        Field(
            description="Key of the MAC in prediction ids, so that nobody can make one up. Default: a checksum keyed by this object's uid, which finds damage and foreign ids only. Example: `{name: flights-ids, key: key}`."
        ),
    ] = None
    horizon: Annotated[
        Duration | None,
        Field(
            description="A label that comes later than that after its prediction is counted apart, `1m` to `8760h`. Default: `840h` (35 days)."
        ),
    ] = None
    cel: ClassVar = (_between("horizon", "1m", "8760h"),)


class MetricsOptions(ApiModel):
    """What `/metrics` carries."""

    feature_bins: Annotated[
        bool,
        Field(
            description="`homeostat_feature_bin_total` too: some hundred series a pod. `/stats` has them in any case. Default: false."
        ),
    ] = False


class Statistics(ApiModel):
    """Counters of features and scores, which drift and analysis are judged by."""

    enabled: Annotated[
        bool,
        Field(
            description="False: no feature and score is counted; a DriftMonitor of this deployment then has `InsufficientData`. Default: true."
        ),
    ] = True
    sample: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="Share of the rows whose features and scores are counted, drawn row by row, above 0 to 1. Requests, rows, latency, outcomes and labels are counted in full. A DriftMonitor needs its rows of those that are drawn. Default: 1 (every row). Example: 0.1.",
        ),
    ] = None
    cel: ClassVar = (
        Rule(
            "!has(self.sample) || !has(self.enabled) || self.enabled",
            "sample needs enabled: true: take out sample, or enable the statistics",
            ".sample",
        ),
    )


class HttpSink(ApiModel):
    """CloudEvents over HTTP, batched as the CloudEvents HTTP binding has it."""

    url: Annotated[
        str,
        Field(
            min_length=8,
            max_length=1024,
            pattern=r"^https?://",
            description="Where the pods POST to. Example: `http://broker.events.svc/ml`.",
        ),
    ]


class ArtifactSink(ApiModel):
    """Parquet files as artifacts of a registry, each with a tag of its own."""

    uri: Annotated[
        str,
        Field(
            min_length=8,
            max_length=1024,
            pattern=r"^oci://[^@]+$",
            description="Repository, without tag. Example: `oci://registry.ml.svc:5000/ml/flights-payloads`.",
        ),
    ]


class VolumeSink(ApiModel):
    """Parquet files in a volume."""

    claim_name: Annotated[
        Name,
        Field(
            description="PersistentVolumeClaim of the same namespace that all pods may write to (`ReadWriteMany`, unless all are on one node). Example: `payloads`."
        ),
    ]


class Sink(ApiModel):
    """Where payloads go: exactly one of the three."""

    http: Annotated[HttpSink | None, Field(description="CloudEvents over HTTP.")] = None
    artifact: Annotated[
        ArtifactSink | None,
        Field(description="Parquet files in a registry. Needs a server image with `homeostat[payloads]`."),
    ] = None
    volume: Annotated[
        VolumeSink | None,
        Field(description="Parquet files in a volume. Needs a server image with `homeostat[payloads]`."),
    ] = None
    cel: ClassVar = (
        Rule(
            "(has(self.http) ? 1 : 0) + (has(self.artifact) ? 1 : 0) + (has(self.volume) ? 1 : 0) == 1",
            "name exactly one sink: http, artifact or volume",
        ),
    )


class PayloadLogging(ApiModel):
    """Rows with their predictions and ids, for people who want to look. Never slows a request: what is too much is dropped and counted."""

    sample: Annotated[
        float, Field(gt=0, le=1, description="Share of the requests that are logged, above 0 to 1. Example: 0.01.")
    ]
    sink: Annotated[Sink, Field(description="Where they go. Example: `{http: {url: http://broker.events.svc/ml}}`.")]
    drop: Annotated[
        Columns, Field(description="Inputs that are not logged. Default: none. Example: `[name, address]`.")
    ] = ()
    hash: Annotated[
        Columns,
        Field(
            description="Inputs of which only a keyed hash is logged; needs `saltSecretRef`. Default: none. Example: `[customer]`."
        ),
    ] = ()
    salt_secret_ref: Annotated[
        SecretKeyRef | None,
        Field(description="Key of the hashes, 16 to 64 bytes. Example: `{name: flights-salt, key: salt}`."),
    ] = None
    cel: ClassVar = (
        Rule(
            "!has(self.hash) || size(self.hash) == 0 || has(self.saltSecretRef)",
            "hash needs saltSecretRef: name a Secret's key of 16 to 64 bytes",
            ".hash",
        ),
        Rule(
            "!has(self.drop) || !has(self.hash) || !self.drop.exists(c, c in self.hash)",
            "an input is dropped or hashed, not both: take it out of one list",
            ".drop",
        ),
    )


class Server(ApiModel):
    """The serving pods."""

    resources: Annotated[
        Resources | None,
        Field(
            description="CPU and memory of the server. Default: requests of 100m and 192Mi (64Mi more for each worker beyond the first, and what `cache` and `payloadLogging` take). A pod that is resized in place adapts without a restart."
        ),
    ] = None
    workers: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="Worker processes in a pod. Default: the whole cores of `resources.limits.cpu`, also when that changes in place; 1 without such a limit.",
        ),
    ] = None
    threads: Annotated[
        int | None,
        Field(
            ge=1, le=64, description="Threads of the runtime in each worker. More pay for big models only. Default: 1."
        ),
    ] = None
    batching: Annotated[
        Batching | None, Field(description="How rows share a call of the runtime. Default: without waiting.")
    ] = None
    limits: Annotated[
        Limits | None, Field(description="What a client, or a model, may cost a pod. Default: see each.")
    ] = None
    cache: Annotated[Cache | None, Field(description="Remembered predictions. Default: none.")] = None
    tls: Annotated[
        Tls | None,
        Field(
            description="TLS of the serving ports. Change it between rollouts, not during one. Default: in the clear."
        ),
    ] = None
    feedback: Annotated[FeedbackOptions | None, Field(description="Labels that come later. Default: see each.")] = None
    metrics: Annotated[MetricsOptions | None, Field(description="What `/metrics` carries. Default: no features.")] = (
        None
    )
    statistics: Annotated[Statistics | None, Field(description="Counters of features and scores. Default: on.")] = None
    payload_logging: Annotated[
        PayloadLogging | None, Field(description="Rows with their predictions, for people to look at. Default: none.")
    ] = None
