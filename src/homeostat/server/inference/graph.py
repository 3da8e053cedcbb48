"""What an ONNX graph takes and gives, in the words of the Open Inference Protocol."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.errors import ArtifactError

DATATYPES: Final = {
    "float": "FP32",
    "double": "FP64",
    "float16": "FP16",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "bool": "BOOL",
    "string": "BYTES",
}
NUMPY: Final[dict[str, Any]] = {
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "BOOL": np.bool_,
    "BYTES": np.object_,
}
NUMBERS: Final = frozenset({*NUMPY, "BF16"} - {"BYTES"})
_TENSOR: Final = re.compile(r"tensor\((\w+)\)")
_MAPS: Final = re.compile(r"seq\(map\((string|int64),tensor\(float\)\)\)")


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output. shape: None where any size goes; maps: a list of maps from class to score, shown as (n, classes)."""

    name: str
    datatype: str
    shape: tuple[int | None, ...]
    maps: bool = False

    @property
    def shown(self) -> list[int]:
        """The shape as metadata write it: -1 where any size goes."""
        return [-1 if size is None else size for size in self.shape]

    @property
    def batched(self) -> bool:
        """Whether the first axis takes any number of rows."""
        return bool(self.shape) and self.shape[0] is None


@dataclass(frozen=True, slots=True)
class Graph:
    """Inputs and outputs of a model, in the file's order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def batched(self) -> bool:
        """Whether rows of several requests may run as one batch, as far as the shapes tell."""
        return bool(self.inputs) and all(p.batched or p.maps for p in (*self.inputs, *self.outputs))


def graph_of(session: Any) -> Graph:
    """What the file says. Raises ArtifactError `LoadFailed` for types that no protocol carries."""
    return Graph(_ports(session.get_inputs()), _ports(session.get_outputs()))


def _ports(given: Sequence[Any]) -> tuple[Port, ...]:
    return tuple(_port(one) for one in given)


def _port(given: Any) -> Port:
    if _MAPS.fullmatch(given.type):
        return Port(given.name, "FP32", (None, None), maps=True)
    found = _TENSOR.fullmatch(given.type)
    datatype = DATATYPES.get(found[1]) if found else None
    if datatype is None:
        raise ArtifactError(
            "LoadFailed",
            f"{given.name!r} has the type {given.type}, which cannot be sent or answered over the protocols",
        )
    return Port(given.name, datatype, tuple(size if isinstance(size, int) else None for size in given.shape))


def as_array(port: Port, found: Any) -> NDArray[Any]:
    """An output as an array; a list of maps becomes a table in the maps' order."""
    if port.maps:
        return np.array([list(one.values()) for one in found], dtype=np.float32)
    array: NDArray[Any] = np.asarray(found)
    return array
