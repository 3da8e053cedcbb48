"""What a user of tritonclient does over gRPC: run by tritonclient's own Python, answers as JSON on standard output."""

import asyncio
import json
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException

TABLE, NUMBERS = "flights", "numbers"


def columns(rows: Any) -> list[Any]:
    """Three columns of mixed types. rows: distance, hour, origin."""
    inputs = []
    for place, (name, datatype, kind) in enumerate(
        [("distance", "FP32", np.float32), ("hour", "FP32", np.float32), ("origin", "BYTES", object)]
    ):
        values = [[row[place] if row[place] is not None else float("nan")] for row in rows]
        one = triton.InferInput(name, [len(rows), 1], datatype)
        one.set_data_from_numpy(np.array(values, dtype=kind))
        inputs.append(one)
    return inputs


def tensor(matrix: Any) -> list[Any]:
    values = np.array(matrix, dtype=np.float32)
    one = triton.InferInput("input", list(values.shape), "FP32")
    one.set_data_from_numpy(values)
    return [one]


def plain(result: Any) -> dict[str, Any]:
    """Outputs by name as lists."""
    found = {}
    for output in result.get_response().outputs:
        values = result.as_numpy(output.name)
        found[output.name] = [v.decode() if isinstance(v, bytes) else v for v in values.ravel().tolist()]
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
        "ready_other": error(lambda: client.is_model_ready("nothing")),
        "server": client.get_server_metadata(as_json=True),
        "metadata": client.get_model_metadata(TABLE, as_json=True),
        "metadata_version": client.get_model_metadata(TABLE, version, as_json=True),
        "config": client.get_model_config(TABLE, as_json=True),
        "index": client.get_model_repository_index(as_json=True),
    }


def absent(client: Any) -> Any:
    """Calls for what this server has no use for."""
    return {
        "statistics": error(client.get_inference_statistics),
        "load": error(lambda: client.load_model(TABLE)),
        "unload": error(lambda: client.unload_model(TABLE)),
        "trace": error(client.get_trace_settings),
        "log": error(client.get_log_settings),
        "system_memory": error(client.get_system_shared_memory_status),
        "cuda_memory": error(client.get_cuda_shared_memory_status),
    }


def infers(client: Any, rows: Any, version: Any) -> Any:
    everything = client.infer(TABLE, columns(rows), request_id="mine", headers={"x-mine": "1"})
    response = everything.get_response()
    chosen = client.infer(
        TABLE, columns(rows), model_version=version, outputs=[triton.InferRequestedOutput("probabilities")]
    )
    got = queue.Queue()
    for row in rows:
        client.async_infer(TABLE, columns([row]), callback=lambda result, error: got.put((result, error)))
    later = [got.get(timeout=30) for _ in rows]
    many = columns(rows * 2000)
    packed = {word: plain(client.infer(TABLE, many, compression_algorithm=word)) for word in (None, "gzip", "deflate")}
    return {
        "all": plain(everything),
        "id": response.id,
        "version": response.model_version,
        "ids": response.parameters["prediction_ids"].string_param,
        "chosen": plain(chosen),
        "async": sorted(plain(result)["label"][0] for result, _ in later),
        "parameters": plain(
            client.infer(TABLE, columns(rows), priority=1, timeout=5_000_000, parameters={"mine": "x", "half": 0.5})
        ),
        "compressed": packed["gzip"] == packed[None] == packed["deflate"],
    }


def streams(client: Any, rows: Any) -> Any:
    got = queue.Queue()
    client.start_stream(callback=lambda result, error: got.put((result, error)))
    for place, row in enumerate(rows):
        client.async_stream_infer(TABLE, columns([row]), request_id=str(place))
    client.async_stream_infer(TABLE, columns(rows)[:2], request_id="wrong")
    client.async_stream_infer(TABLE, columns(rows), request_id="last", enable_empty_final_response=True)
    found = []
    for _ in range(len(rows) + 2):
        result, wrong = got.get(timeout=30)
        found.append(wrong.message() if wrong else [result.get_response().id, plain(result)["label"]])
    client.stop_stream()
    return found


def wrong(client: Any, rows: Any) -> Any:
    inputs, one = columns(rows), columns(rows[:1])
    other = triton.InferInput("speed", [1, 1], "FP32")
    other.set_data_from_numpy(np.zeros((1, 1), np.float32))
    text = triton.InferInput("hour", [1, 1], "BYTES")
    text.set_data_from_numpy(np.array([["ten"]], dtype=object))
    classes = [triton.InferRequestedOutput("probabilities", class_count=2)]
    return {
        "missing": error(lambda: client.infer(TABLE, inputs[:2])),
        "unknown": error(lambda: client.infer(TABLE, [*one, other])),
        "type": error(lambda: client.infer(TABLE, [one[0], text, one[2]])),
        "output": error(lambda: client.infer(TABLE, inputs, outputs=[triton.InferRequestedOutput("nothing")])),
        "classes": error(lambda: client.infer(TABLE, inputs, outputs=classes)),
        "model": error(lambda: client.infer("nothing", inputs)),
        "version": error(lambda: client.infer(TABLE, inputs, model_version="v99")),
    }


async def asynchronous(url: Any, rows: Any) -> Any:
    async with aio.InferenceServerClient(url) as client:
        answers = await asyncio.gather(*[client.infer(TABLE, columns([row])) for row in rows])

        async def requests() -> AsyncIterator[Any]:
            for place, row in enumerate(rows):
                yield {"model_name": TABLE, "inputs": columns([row]), "request_id": str(place)}

        streamed = [
            (result.get_response().id, plain(result)["label"], problem)
            async for result, problem in client.stream_infer(requests())
        ]
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_model_ready(TABLE),
            "config": await client.get_model_config(TABLE, as_json=True),
            "rows": [plain(answer) for answer in answers],
            "stream": streamed,
        }


def main() -> None:
    given = json.loads(sys.argv[1])
    url, rows, version = f"127.0.0.1:{given['grpc']}", given["rows"], given["version"]
    keep = triton.KeepAliveOptions(keepalive_time_ms=10_000)
    with triton.InferenceServerClient(url, keepalive_options=keep) as client:
        found = {
            "looks": looks(client, version),
            "absent": absent(client),
            "infers": infers(client, rows, version),
            "stream": streams(client, rows),
            "wrong": wrong(client, rows),
        }
    with triton.InferenceServerClient(f"127.0.0.1:{given['numbers_grpc']}") as client:
        found["tensor"] = plain(client.infer(NUMBERS, tensor(given["matrix"])))
    with triton.InferenceServerClient(f"127.0.0.1:{given['slow_grpc']}") as client:
        found["timeout"] = error(lambda: client.infer(TABLE, columns(rows), timeout=2000))
        found["client_timeout"] = error(lambda: client.infer(TABLE, columns(rows), client_timeout=0.05))
    found["aio"] = asyncio.run(asynchronous(url, rows))
    json.dump(found, sys.stdout)


main()
