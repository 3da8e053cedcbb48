"""What a user of KServe's inference clients does: run by kserve's own Python, answers as JSON on standard output."""

import asyncio
import json
import sys
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

TABLE = "flights"


def request(
    rows: Any, *, binary: Any = None, parameters: Any = None, outputs: Any = None, few: int = 3, version: Any = None
) -> Any:
    """Three columns of mixed types. rows: distance, hour, origin; binary: None: as plain lists."""
    inputs = []
    for place, (name, datatype, kind) in enumerate(
        [("distance", "FP32", np.float32), ("hour", "FP32", np.float32), ("origin", "BYTES", object)][:few]
    ):
        values = [row[place] if row[place] is not None else float("nan") for row in rows]
        if binary is None:
            one = InferInput(name, [len(rows), 1], datatype, data=values)
        else:
            one = InferInput(name, [len(rows), 1], datatype)
            one.set_data_from_numpy(np.array(values, dtype=kind).reshape(-1, 1), binary_data=binary)
        inputs.append(one)
    return InferRequest(
        TABLE, inputs, request_id="mine", parameters=parameters, request_outputs=outputs, model_version=version
    )


def plain(response: Any) -> dict[str, Any]:
    """Outputs by name as lists."""
    found = {}
    for output in response.outputs:
        values = output.as_numpy().ravel().tolist()
        found[output.name] = [v.decode() if isinstance(v, bytes) else v for v in values]
    return found


async def rest(base: Any, rows: Any) -> Any:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        async def ask(**how: Any) -> Any:
            return await client.infer(base, request(rows, **how), model_name=TABLE)

        headers = {}
        lists = await client.infer(base, request(rows), model_name=TABLE, response_headers=headers, timeout=20)
        chosen = await ask(binary=True, outputs=[RequestedOutput("probabilities", {"binary_data": True})])
        everything = await ask(binary=True, parameters={"binary_data_output": True})
        try:
            await ask(few=2)
        except httpx.HTTPStatusError as failed:
            message = str(failed)
        as_grpc = everything.to_grpc()
        as_rest, _ = lists.to_rest()
        return {
            "live": await client.is_server_live(base),
            "ready": await client.is_server_ready(base),
            "model": await client.is_model_ready(base, TABLE),
            "other": await client.is_model_ready(base, "nothing"),
            "lists": plain(lists),
            "id": lists.id,
            "name": lists.model_name,
            "type": headers["content-type"],
            "json": plain(await ask(binary=False)),
            "binary": plain(everything),
            "chosen": plain(chosen),
            "error": message,
            "as_grpc": [as_grpc.model_name, as_grpc.parameters["prediction_ids"].string_param],
            "as_rest": as_rest["parameters"]["prediction_ids"],
        }


async def old(base: Any, rows: Any) -> Any:
    """Version 1 of the protocol, the client's default."""
    records = [dict(zip(("distance", "hour", "origin"), row, strict=True)) for row in rows]
    async with InferenceRESTClient() as client:
        try:
            await client.infer(base, {"instances": [{"distance": 1}]}, model_name=TABLE)
        except httpx.HTTPStatusError as failed:
            message = str(failed)
        return {
            "live": await client.is_server_live(base),
            "model": await client.is_model_ready(base, TABLE),
            "predictions": await client.infer(base, {"instances": records}, model_name=TABLE),
            "lists": await client.infer(base, {"instances": [[r[0], r[2], r[1]] for r in rows]}, model_name=TABLE),
            "error": message,
        }


async def over_grpc(url: Any, rows: Any, version: Any) -> Any:
    async with InferenceGRPCClient(url, timeout=20) as client:
        raw = await client.infer(request(rows, binary=True), headers=[("x-mine", "1")])
        typed = await client.infer(request(rows))
        back, _ = raw.to_rest()
        try:
            await client.infer(request(rows, few=2))
        except grpc.RpcError as failed:
            error = [str(failed.code()), failed.details()]
        try:
            await client.is_model_ready("nothing")
        except grpc.RpcError as failed:
            other = str(failed.code())
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model": await client.is_model_ready(TABLE),
            "other": other,
            "raw": plain(raw),
            "typed": plain(typed),
            "id": raw.id,
            "version": raw.model_version,
            "pinned": (await client.infer(request(rows, version=version))).model_version,
            "ids": back["parameters"]["prediction_ids"],
            "error": error,
        }


async def everything() -> Any:
    given = json.loads(sys.argv[1])
    base, rows = f"http://127.0.0.1:{given['rest']}", given["rows"]
    return {
        "rest": await rest(base, rows),
        "v1": await old(base, rows),
        "grpc": await over_grpc(f"127.0.0.1:{given['grpc']}", rows, given["version"]),
    }


json.dump(asyncio.run(everything()), sys.stdout)
