"""`homeostat serve` and `homeostat fetch`."""

import argparse
from dataclasses import fields
from typing import Final

from homeostat.api.names import PORT_ADMIN, PORT_REST
from homeostat.server.settings import Settings

# option: (type, help); the default is the Settings' own
BOUNDS: Final = {
    "max_latency": (float, "seconds a row may wait for others to share its batch"),
    "max_batch_rows": (int, "rows of one call of the runtime"),
    "max_queue_rows": (int, "rows that may wait; more is answered 429"),
    "max_model_bytes": (int, "size of a model that is still loaded"),
    "max_header": (int, "bytes of a request's header; more is answered 431"),
    "max_body": (int, "bytes of a request's body; more is answered 413"),
    "max_connections": (int, "client connections per worker; more is answered 503"),
    "header_seconds": (float, "time for a request's header; more is answered 408"),
    "body_seconds": (float, "time for a request's body; more is answered 408"),
    "idle_seconds": (float, "after which an idle connection is closed"),
    "deadline": (float, "seconds within which a request must begin to run; else 504"),
    "load_seconds": (float, "time for checking and for loading the model"),
    "wedged_seconds": (float, "a worker that says nothing for that long is restarted"),
    "lame_duck": (float, "seconds to serve on after SIGTERM, while endpoints propagate"),
    "drain": (float, "seconds for clients to leave after that"),
}


def run(argv: list[str]) -> int:
    """Run `serve` or `fetch` (argv[0]). Returns the exit code."""
    if argv[0] == "fetch":
        from homeostat.server import fetch

        return fetch.run(argv[1:])
    return _serve(argv[1:])


def _serve(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    chosen = {f.name: getattr(options, f.name) for f in fields(Settings) if hasattr(options, f.name)}
    from homeostat.server.supervisor import serve

    return serve(Settings(**chosen))


def _parser() -> argparse.ArgumentParser:
    defaults = {f.name: f.default for f in fields(Settings)}
    parser = argparse.ArgumentParser(prog="homeostat serve", description="Serve an ONNX model.")
    parser.add_argument("--model-dir", required=True, help="folder with model.onnx and what came with it")
    parser.add_argument("--name", required=True, help="the model's name in /v2/models/<name>")
    parser.add_argument("--version", required=True, help="the version's name, such as v7")
    parser.add_argument("--deployment-uid", default="", help="uid that prediction ids are checked against")
    parser.add_argument("--route-file", default="", help="file with the route; it is read again when it changes")
    parser.add_argument("--host", default=defaults["host"], help="address to listen on")
    parser.add_argument("--port", type=int, default=PORT_REST)
    parser.add_argument("--admin-port", type=int, default=PORT_ADMIN)
    parser.add_argument("--workers", type=_positive, default=1, help="worker processes")
    parser.add_argument("--threads", type=_positive, default=1, help="ONNX Runtime's threads per worker")
    parser.add_argument("--no-stats", dest="stats", action="store_false", help="count no features and scores")
    for name, (kind, text) in BOUNDS.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, default=defaults[name], help=f"{text} (default %(default)s)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return number
