# mypy: ignore-errors
"""ONNX Runtime in MLServer: a custom runtime, as its documentation describes one. Runs in the rival's environment.

One tensor is read by MLServer's NumPy codec, named columns by its pandas codec.
"""

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(self.settings.parameters.uri, options, providers=["CPUExecutionProvider"])
        self._strings = self.settings.parameters.extra["strings"]
        self._numbers = self.settings.parameters.extra["numbers"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        if self._strings:
            frame = PandasCodec.decode_request(payload)
            feeds = {
                "numbers": frame[self._numbers].to_numpy(dtype=np.float32),
                "strings": frame[self._strings].to_numpy(dtype=object),
            }
        else:
            feeds = {"input": NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)}
        label, probabilities = self._session.run(None, feeds)
        outputs = [
            NumpyCodec.encode_output("label", label),
            NumpyCodec.encode_output("probabilities", probabilities),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
