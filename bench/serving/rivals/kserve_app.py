# mypy: ignore-errors
"""ONNX Runtime in KServe's model server: a custom model. `python kserve_app.py MODEL_FILE HTTP_PORT GRPC_PORT`.

Runs in the rival's environment. The log line for each request's latency, on by default, is off.
"""

import sys

import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class OnnxModel(Model):
    def __init__(self, path: str) -> None:
        super().__init__("bench")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.ready = True

    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:  # noqa: ANN001, ARG002
        label, probabilities = self._session.run(None, {"input": payload.inputs[0].as_numpy()})
        outputs = []
        for name, datatype, values in (("label", "INT64", label), ("probabilities", "FP32", probabilities)):
            output = InferOutput(name=name, shape=list(values.shape), datatype=datatype)
            output.set_data_from_numpy(values, binary_data=False)
            outputs.append(output)
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=outputs)


if __name__ == "__main__":
    path, http_port, grpc_port = sys.argv[1:4]
    sys.argv[1:] = []
    server = ModelServer(http_port=int(http_port), grpc_port=int(grpc_port), enable_latency_logging=False)
    server.start([OnnxModel(path)])
