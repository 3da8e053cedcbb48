# mypy: ignore-errors
"""ONNX Runtime behind Triton by PyTriton, with its dynamic batcher. `python pytriton_app.py MODEL_FILE HTTP_PORT GRPC_PORT FOLDER`.

Runs in the rival's environment.
"""

import sys

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main(path: str, http_port: int, grpc_port: int, folder: str) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @batch
    def infer(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        label, probabilities = session.run(None, inputs)
        return {"label": label.reshape(-1, 1), "probabilities": probabilities}

    config = TritonConfig(http_address="127.0.0.1", http_port=http_port, grpc_port=grpc_port, allow_metrics=False)
    with Triton(config=config, workspace=folder) as triton:
        triton.bind(
            model_name="bench",
            infer_func=infer,
            inputs=[Tensor(name="input", dtype=np.float32, shape=(20,))],
            outputs=[
                Tensor(name="label", dtype=np.int64, shape=(1,)),
                Tensor(name="probabilities", dtype=np.float32, shape=(2,)),
            ],
            config=ModelConfig(max_batch_size=256),
        )
        triton.serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
