"""What a user of tritonclient does over HTTP: run by tritonclient's own Python, answers as JSON on standard output."""

import asyncio
import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

TABLE, NUMBERS = "flights", "numbers"


def columns(rows: Any, *, binary: bool, module: Any = triton) -> list[Any]:
    """Three columns of mixed types. rows: distance, hour, origin."""
    inputs = []
    for place, (name, datatype, kind) in enumerate(
        [("distance", "FP32", np.float32), ("hour", "FP32", np.float32), ("origin", "BYTES", object)]
    ):
        values = [[row[place] if row[place] is not None else float("nan")] for row in rows]
        one = module.InferInput(name, [len(rows), 1], datatype)
        one.set_data_from_numpy(np.array(values, dtype=kind), binary_data=binary)
        inputs.append(one)
    return inputs


def tensor(matrix: Any, *, binary: bool, module: Any = triton) -> list[Any]:
    values = np.array(matrix, dtype=np.float32)
    one = module.InferInput("input", list(values.shape), "FP32")
    one.set_data_from_numpy(values, binary_data=binary)
    return [one]


def plain(result: Any) -> dict[str, Any]:
    """Outputs by name as lists."""
    found = {}
    for output in result.get_response()["outputs"]:
        values = result.as_numpy(output["name"])
        found[output["name"]] = [v.decode() if isinstance(v, bytes) else v for v in values.ravel().tolist()]
    return found


def error(call: Any) -> Any:
    try:
        call()
    except InferenceServerException as wrong:
        return [wrong.status(), wrong.message()]
    return None


def looks(client: Any, version: Any) -> Any:
    return {
        "server_live": client.is_server_live(),
        "server_ready": client.is_server_ready(),
        "ready": client.is_model_ready(TABLE),
        "ready_version": client.is_model_ready(TABLE, version),
        "ready_other": client.is_model_ready("nothing"),
        "server": client.get_server_metadata(),
        "metadata": client.get_model_metadata(TABLE),
        "metadata_version": client.get_model_metadata(TABLE, version),
        "config": client.get_model_config(TABLE),
        "config_version": client.get_model_config(TABLE, version),
        "index": client.get_model_repository_index(),
    }


def absent(client: Any) -> Any:
    """Calls for what this server has no use for."""
    return {
        "statistics": error(client.get_inference_statistics),
        "statistics_of": error(lambda: client.get_inference_statistics(TABLE)),
        "load": error(lambda: client.load_model(TABLE)),
        "unload": error(lambda: client.unload_model(TABLE)),
        "trace": error(client.get_trace_settings),
        "log": error(client.get_log_settings),
        "system_memory": error(client.get_system_shared_memory_status),
        "cuda_memory": error(client.get_cuda_shared_memory_status),
    }


def infers(client: Any, rows: Any, version: Any) -> Any:
    everything = client.infer(TABLE, columns(rows, binary=True), request_id="mine")
    wanted = [
        triton.InferRequestedOutput("probabilities", binary_data=False),
        triton.InferRequestedOutput("label", binary_data=True),
    ]
    chosen = client.infer(TABLE, columns(rows, binary=False), model_version=version, outputs=wanted)
    mixed = columns(rows, binary=True)[:1] + columns(rows, binary=False)[1:]
    futures = [client.async_infer(TABLE, columns([row], binary=True)) for row in rows]
    return {
        "binary": plain(everything),
        "head": {k: v for k, v in everything.get_response().items() if k != "outputs"},
        "json": plain(client.infer(TABLE, columns(rows, binary=False))),
        "mixed": plain(client.infer(TABLE, mixed)),
        "chosen": plain(chosen),
        "chosen_forms": ["data" in output for output in chosen.get_response()["outputs"]],
        "async": [plain(future.get_result()) for future in futures],
        "parameters": plain(
            client.infer(TABLE, columns(rows, binary=True), priority=1, timeout=5_000_000, parameters={"mine": "x"})
        ),
        "headers": plain(
            client.infer(TABLE, columns(rows, binary=True), headers={"X-Mine": "1"}, query_params={"a": 1})
        ),
    }


def compressed(client: Any, rows: Any) -> Any:
    """Long bodies, so that the answers are compressed too. As [rows, whether all are equal to the uncompressed]."""
    many = rows * 2000
    expected = plain(client.infer(TABLE, columns(many, binary=True)))
    found = {}
    for form in (True, False):
        for word in ("gzip", "deflate"):
            wanted = [triton.InferRequestedOutput(n, binary_data=form) for n in expected]
            got = plain(
                client.infer(
                    TABLE,
                    columns(many, binary=form),
                    outputs=wanted,
                    request_compression_algorithm=word,
                    response_compression_algorithm=word,
                )
            )
            close = np.allclose(got["probabilities"], expected["probabilities"], rtol=1e-6)
            found[f"{word}-{form}"] = got["label"] == expected["label"] and close
    return found


def wrong(client: Any, rows: Any) -> Any:
    inputs = columns(rows, binary=True)
    other = triton.InferInput("speed", [1, 1], "FP32")
    other.set_data_from_numpy(np.zeros((1, 1), np.float32))
    text = triton.InferInput("hour", [1, 1], "BYTES")
    text.set_data_from_numpy(np.array([["ten"]], dtype=object))
    one = columns(rows[:1], binary=True)
    wanted = [triton.InferRequestedOutput("nothing")]
    classes = [triton.InferRequestedOutput("probabilities", class_count=2)]
    return {
        "missing": error(lambda: client.infer(TABLE, inputs[:2])),
        "unknown": error(lambda: client.infer(TABLE, [*one, other])),
        "type": error(lambda: client.infer(TABLE, [one[0], text, one[2]])),
        "output": error(lambda: client.infer(TABLE, inputs, outputs=wanted)),
        "classes": error(lambda: client.infer(TABLE, inputs, outputs=classes)),
        "model": error(lambda: client.infer("nothing", inputs)),
        "version": error(lambda: client.infer(TABLE, inputs, model_version="v99")),
    }


async def asynchronous(url: Any, rows: Any, version: Any) -> Any:
    async with aio.InferenceServerClient(url) as client:
        answers = await asyncio.gather(*[client.infer(TABLE, columns([row], binary=True, module=aio)) for row in rows])
        many = columns(rows * 2000, binary=True, module=aio)
        packed = await client.infer(
            TABLE, many, request_compression_algorithm="gzip", response_compression_algorithm="gzip"
        )
        try:
            await client.infer(TABLE, columns(rows, binary=True, module=aio)[:2])
        except InferenceServerException as failed:
            message = failed.message()
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_model_ready(TABLE, version),
            "metadata": await client.get_model_metadata(TABLE),
            "config": await client.get_model_config(TABLE),
            "rows": [plain(answer) for answer in answers],
            "json": plain(await client.infer(TABLE, columns(rows, binary=False, module=aio))),
            "compressed": len(plain(packed)["label"]),
            "error": message,
        }


def main() -> None:
    given = json.loads(sys.argv[1])
    url, rows, version = f"127.0.0.1:{given['rest']}", given["rows"], given["version"]
    with triton.InferenceServerClient(url, concurrency=4) as client:
        found = {
            "looks": looks(client, version),
            "absent": absent(client),
            "infers": infers(client, rows, version),
            "compressed": compressed(client, rows),
            "wrong": wrong(client, rows),
        }
    with triton.InferenceServerClient(f"127.0.0.1:{given['numbers']}") as client:
        found["tensor"] = {
            str(binary): plain(client.infer(NUMBERS, tensor(given["matrix"], binary=binary)))
            for binary in (True, False)
        }
    with triton.InferenceServerClient(f"127.0.0.1:{given['slow']}") as client:
        found["timeout"] = error(lambda: client.infer(TABLE, columns(rows, binary=True), timeout=2000))
    found["aio"] = asyncio.run(asynchronous(url, rows, version))
    json.dump(found, sys.stdout)


main()
