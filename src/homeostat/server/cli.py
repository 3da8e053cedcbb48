"""`homeostat serve` and `homeostat fetch`."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from homeostat.api.names import PORT_ADMIN, PORT_GRPC, PORT_REST
from homeostat.errors import ArtifactError
from homeostat.server.settings import MAX_WORKERS, Settings

SAGEMAKER_MODEL: Final = "/opt/ml/model"
SAFE_PORTS: Final = "SAGEMAKER_SAFE_PORT_RANGE"
LOOPBACK: Final = "127.0.0.1"
# option: (type, help); the default is the Settings' own
BOUNDS: Final = {
    "max_latency": (float, "seconds a row may wait for others to share its batch"),
    "max_batch_rows": (int, "rows of one call of the runtime"),
    "max_queue_rows": (int, "rows that may wait; more is answered 429"),
    "max_model_bytes": (int, "size of a model that is still loaded, its external weights included"),
    "max_header": (int, "bytes of a request's header; more is answered 431"),
    "max_body": (int, "bytes of a request's body; more is answered 413"),
    "max_connections": (int, "client connections per worker; more is answered 503"),
    "header_seconds": (float, "time for a request's header; more is answered 408"),
    "body_seconds": (float, "time for a request's body; more is answered 408"),
    "idle_seconds": (float, "after which an idle connection is closed"),
    "max_wait": (float, "seconds that a row may have to wait by estimate; more is answered 429"),
    "run_seconds": (float, "time for one call of the runtime; it is then ended and answered 504"),
    "deadline": (float, "seconds within which a request must begin to run; else 504"),
    "load_seconds": (float, "time for checking the model, and again for loading it in a worker"),
    "wedged_seconds": (float, "a worker that says nothing for that long is restarted"),
    "lame_duck": (float, "seconds to serve on after SIGTERM, while endpoints propagate"),
    "drain": (float, "seconds for clients to leave after that"),
    "cache_seconds": (float, "for which a remembered prediction is given again"),
    "cache_bytes": (int, "bytes that a worker's remembered predictions may take"),
    "payload_seconds": (float, "after which fewer rows are written or sent; 0: 300 for files, 1 for requests"),
    "payload_buffer": (int, "bytes of payloads that may wait in each worker, and again in the logger; more is dropped"),
    "feedback_horizon": (float, "seconds after a prediction within which its label still counts"),
}


MAY_BE_ZERO: Final = {"max_latency", "lame_duck", "drain", "payload_seconds"}


def _bound(kind: type[int] | type[float], *, zero: bool) -> Callable[[str], float]:
    """What reads a bound: a number above 0, or from 0 on."""

    def number(text: str) -> float:
        found = kind(text)
        if not (found > 0 or (zero and found == 0)) or found == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be {'0 or more' if zero else 'above 0'}")
        return found

    number.__name__ = kind.__name__  # argparse's message for what is no number
    return number


def run(argv: list[str]) -> int:
    """Run `serve` or `fetch` (argv[0]). Returns the exit code."""
    if argv[0] == "fetch":
        from homeostat.server.life import fetch

        return fetch.run(argv[1:])
    return _serve(argv[1:])


def _serve(argv: list[str]) -> int:
    try:
        settings, plain_http = chosen(argv, os.environ)
    except ValueError as error:
        sys.stderr.write(f"homeostat serve: {error}\n")
        return 2
    from homeostat.server.life.supervisor import serve

    if not settings.model_dir.startswith("oci://"):
        if settings.announce and not Path(settings.model_dir).exists():
            sys.stderr.write(
                f"homeostat serve: {settings.model_dir} does not exist: give an ONNX file, a bundle's folder or oci://…\n"
            )
            return 1
        return serve(settings)
    with tempfile.TemporaryDirectory(prefix="homeostat-") as folder:
        try:
            return serve(_pulled(settings, Path(folder), plain_http))
        except ArtifactError as error:
            sys.stderr.write(f"homeostat serve: {error.because} ({error.reason})\n")
            return 1


def _pulled(settings: Settings, folder: Path, plain_http: tuple[str, ...]) -> Settings:
    """The same for the bundle that the address names, fetched to `folder`. Raises ArtifactError."""
    from homeostat.server.life.fetch import fetch

    sys.stderr.write(f"pulling {settings.model_dir} …\n")
    digest = fetch(settings.model_dir, settings.digest, folder, plain_http)
    sys.stderr.write(f"pulled {digest}\n")
    return replace(settings, model_dir=str(folder), digest=digest)


def chosen(argv: list[str], environment: Mapping[str, str]) -> tuple[Settings, tuple[str, ...]]:
    """What the flags and the platform say, and the hosts that speak HTTP. Raises ValueError with the fix.

    Three ways to start: `--model-dir` (a pod: all addresses), a model by itself (a laptop: loopback, and the addresses on
    standard output), and neither on SageMaker, whose contract says where model and port are.
    """
    options = _parser(_ports(environment)).parse_args(argv)
    found = {f.name: getattr(options, f.name) for f in fields(Settings) if getattr(options, f.name, None) is not None}
    found["announce"] = bool(options.model)
    found.setdefault("page", bool(options.model))
    if options.model and options.model_dir:
        raise ValueError("give the model once: as an argument or as --model-dir")
    if options.model:
        found["model_dir"] = options.model
        found.setdefault("host", LOOPBACK)
        found["lame_duck"] = 0.0  # nobody has a list of endpoints that would still name us
    elif not options.model_dir:
        if not Path(SAGEMAKER_MODEL).is_dir():
            raise ValueError("a model is needed: homeostat serve model.onnx, or --model-dir FOLDER")
        found["model_dir"] = SAGEMAKER_MODEL
    if bool(found.get("tls_cert")) != bool(found.get("tls_key")):
        raise ValueError("--tls-cert and --tls-key belong together")
    if (found.get("tls_client_ca") or found.get("tls_admin")) and not found.get("tls_cert"):
        raise ValueError("--tls-client-ca and --tls-admin need --tls-cert and --tls-key")
    if (options.payload_drop or options.payload_hash or options.payload_salt_file) and not options.payload_to:
        raise ValueError("--payload-drop, --payload-hash and --payload-salt-file need --payload-to")
    if not options.stats and options.stats_sample < 1:
        raise ValueError("--stats-sample counts nothing with --no-stats: leave one of them out")
    return Settings(**found), tuple(options.plain_http)


def _ports(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """Of REST, gRPC and admin by default: on SageMaker, where containers may share a host, those that it gives to this one.

    Raises ValueError.
    """
    rest, given = _number(environment, "SAGEMAKER_BIND_TO_PORT", PORT_REST), environment.get(SAFE_PORTS, "")
    if not given:
        return rest, PORT_GRPC, PORT_ADMIN
    first, _, last = given.partition("-")
    if not (first.isdigit() and last.isdigit()) or int(last) - int(first) < 2:
        raise ValueError(f"{SAFE_PORTS} is {given!r}, but must be FIRST-LAST with three ports or more")
    grpc, admin = [port for port in range(int(first), int(first) + 3) if port != rest][:2]
    return rest, grpc, admin


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if text and not text.isdigit():
        raise ValueError(f"{name} is {text!r}, but must be a port's number")
    return int(text or default)


def _parser(ports: tuple[int, int, int] = (PORT_REST, PORT_GRPC, PORT_ADMIN)) -> argparse.ArgumentParser:
    defaults, (port, grpc, admin) = {f.name: f.default for f in fields(Settings)}, ports
    parser = argparse.ArgumentParser(prog="homeostat serve", description="Serve an ONNX model.")
    parser.add_argument("model", nargs="?", help="an ONNX file, a bundle's folder or oci://…, to try it out here")
    parser.add_argument("--model-dir", help=f"folder with model.onnx and what came with it (default {SAGEMAKER_MODEL})")
    parser.add_argument("--name", default="model", help="the model's name in /v2/models/<name> (default %(default)s)")
    parser.add_argument("--version", default="v1", help="the version's name (default %(default)s)")
    parser.add_argument("--digest", default="", help="SHA-256 of the model file, sha256:…; checked before it is loaded")
    parser.add_argument("--deployment-uid", default="", help="uid that prediction ids are checked against")
    parser.add_argument("--route-file", default="", help="file with the route; it is read again when it changes")
    parser.add_argument("--host", help=f"address to listen on (default {defaults['host']}; for a MODEL {LOOPBACK})")
    parser.add_argument("--port", type=int, default=port, help="REST (default %(default)s, or SAGEMAKER_BIND_TO_PORT)")
    parser.add_argument("--grpc-port", type=int, default=grpc, help="gRPC (default %(default)s; 0: none)")
    parser.add_argument("--admin-port", type=int, default=admin)
    parser.add_argument("--workers", type=_workers, default=0, help="worker processes; 0: by the pod's CPU limit")
    parser.add_argument("--threads", type=_natural, default=0, help="ONNX Runtime's threads per worker; 0: one")
    parser.add_argument("--plain-http", action="append", default=[], metavar="HOST", help="oci: this host speaks HTTP")
    parser.add_argument("--tls-cert", default="", help="certificate chain (PEM); the serving ports then speak TLS")
    parser.add_argument("--tls-key", default="", help="its private key (PEM)")
    parser.add_argument(
        "--tls-client-ca", default="", help="clients must show a certificate of these authorities (PEM)"
    )
    parser.add_argument("--tls-admin", action="store_true", help="the admin port speaks TLS too, without client's")
    parser.add_argument(
        "--page",
        action=argparse.BooleanOptionalAction,
        help="a page at / to try the model (default: for a MODEL yes, in a pod no)",
    )
    _add_statistics(parser)
    parser.add_argument("--feedback-key-file", default="", help="file with the key of prediction ids' MACs")
    parser.add_argument(
        "--cache-rows", type=_natural, default=0, help="predicted rows that a worker remembers; 0: none"
    )
    _add_payloads(parser)
    for name, (kind, text) in BOUNDS.items():
        flag = f"--{name.replace('_', '-')}"
        bound = _bound(kind, zero=name in MAY_BE_ZERO)
        parser.add_argument(flag, type=bound, default=defaults[name], help=f"{text} (default %(default)s)")
    return parser


def _add_statistics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-stats", dest="stats", action="store_false", help="count no features and scores")
    parser.add_argument(
        "--stats-sample",
        type=_some,
        default=1.0,
        help="share of the rows whose features and scores are counted, above 0 (default %(default)s)",
    )
    parser.add_argument("--feature-bins", action="store_true", help="/metrics carries the features' cells too")


def _add_payloads(parser: argparse.ArgumentParser) -> None:
    for flag, kind, default, text in (
        ("--payload-to", str, "", "log payloads: file:///folder, oci://host/repository, http(s)://…"),
        ("--payload-sample", _share, 1.0, "share of the requests to log (default %(default)s)"),
        ("--payload-rows", _natural, 0, "rows of one file or request; 0: 10000 of a file, 100 of a request"),
        ("--payload-salt-file", str, "", "file with the key of --payload-hash, 16 to 64 bytes"),
    ):
        parser.add_argument(flag, type=kind, default=default, help=text)
    for flag, text in (("--payload-drop", "it is not logged"), ("--payload-hash", "only its keyed hash is logged")):
        parser.add_argument(flag, action="append", default=[], metavar="INPUT", help=f"{text}; may be given often")


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} must be between 0 and 1")
    return share


def _some(text: str) -> float:
    share = _share(text)
    if share == 0:
        raise argparse.ArgumentTypeError("0 counts nothing: give a share above 0, or --no-stats")
    return share


def _workers(text: str) -> int:
    number = _natural(text)
    if number > MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"{text} must be at most {MAX_WORKERS}")
    return number


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} must be 0 or more")
    return number
