"""What a person at a terminal reads once the model is served: the addresses, and one command to try it with."""

import asyncio
import shlex
from math import prod
from typing import Any, Final

import orjson

from homeostat.server.inference.examples import values_of
from homeostat.server.life.bundle import Bundle
from homeostat.server.settings import Settings

MOST_VALUES: Final = 16  # of a request that still fits a terminal
ASK_SECONDS: Final = 2.0
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  addresses to listen on, not to call


async def block(settings: Settings, bundle: Bundle | None) -> str:
    """Addresses by what they are for, an empty line, a command. The model's inputs are asked from its own port."""
    host = _ANYWHERE.get(settings.host, settings.host)
    shown = f"[{host}]" if ":" in host else host
    base = f"http{'s' if settings.tls_cert else ''}://{shown}:{settings.port}"
    model = f"{base}/v2/models/{settings.name}"
    lines = [("page", f"{base}/")] if settings.page else []
    lines.append(("model", model))
    if settings.grpc_port:
        lines.append(("gRPC", f"{shown}:{settings.grpc_port}"))
    lines.append(("metrics", f"http{'s' if settings.tls_admin else ''}://{shown}:{settings.admin_port}/metrics"))
    body = None if settings.tls_cert else example(await _metadata(settings, host), bundle)
    command = f"curl {shlex.quote(model)}"
    if body is not None:
        command = f"curl {shlex.quote(f'{model}/infer')} -d {shlex.quote(orjson.dumps(body).decode())}"
    return "".join(f"{what:<8} {where}\n" for what, where in lines) + f"\n{command}\n"


def example(metadata: Any, bundle: Bundle | None) -> dict[str, Any] | None:
    """A request for one row; None when it is too long for a terminal, or when the inputs are not known."""
    found = metadata.get("inputs") if isinstance(metadata, dict) else None
    if not found:
        return None
    seen = {f.name: f for f in bundle.baseline.features} if bundle and bundle.baseline else {}
    inputs = []
    for one in found:
        shape = [1 if size < 0 else size for size in one["shape"]]
        size, kind = prod(shape), "string" if one["datatype"] == "BYTES" else "number"
        value = values_of(kind, seen.get(one["name"]))[0]
        whole = one["datatype"].startswith(("INT", "UINT"))
        value = value > 0 if one["datatype"] == "BOOL" else int(value) if whole else value
        inputs.append(
            {
                "name": one["name"],
                "shape": shape,
                "datatype": one["datatype"],
                "data": [value] * min(size, MOST_VALUES + 1),
            }
        )
    return {"inputs": inputs} if sum(len(one["data"]) for one in inputs) <= MOST_VALUES else None


async def _metadata(settings: Settings, host: str) -> Any:
    """What the model says of itself; None when it does not answer."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_connection(host, settings.port)
            asked = f"GET /v2/models/{settings.name} HTTP/1.1\r\nhost: {settings.name}\r\nconnection: close\r\n\r\n"
            writer.write(asked.encode())
            answer = await reader.read()
            writer.close()
        return orjson.loads(answer.partition(b"\r\n\r\n")[2])
    except (OSError, ValueError):  # a time-out is an OSError
        return None
