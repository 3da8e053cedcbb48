"""Tensors of any shape as people send them, to what a model from elsewhere takes. Pure."""

from array import array
from collections.abc import Mapping, Sequence
from math import nan, prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.server.inference.given import Given, checked_shape, show
from homeostat.server.inference.graph import NUMBERS, NUMPY, Graph, Port
from homeostat.server.problem import Problem

_CODES: Final = {"FP32": "f", "FP16": "f", "FP64": "d"}
_LIMITS: Final = {name: np.iinfo(kind) for name, kind in NUMPY.items() if "INT" in name}


class Tensors:
    """`count` rows as one array per input of the graph. key: sizes of all axes but the first."""

    __slots__ = ("arrays", "count", "key")

    def __init__(self, count: int, arrays: tuple[NDArray[Any], ...]) -> None:
        self.count, self.arrays = count, arrays
        self.key = tuple(array.shape[1:] for array in arrays)

    def part(self, start: int, end: int) -> "Tensors":
        """Rows start … end."""
        return Tensors(end - start, tuple(one[start:end] for one in self.arrays))


def joined(parts: Sequence[Tensors]) -> Tensors:
    """All rows of the parts, in order; their keys are equal."""
    if len(parts) == 1:
        return parts[0]
    arrays = tuple(np.concatenate(column) for column in zip(*(part.arrays for part in parts), strict=True))
    return Tensors(sum(part.count for part in parts), arrays)


class TensorReader:
    """Reads requests against a graph's inputs."""

    def __init__(self, graph: Graph) -> None:
        self._ports = {port.name: port for port in graph.inputs}
        self._batched = graph.batched
        self.width = len(self._ports)

    def inputs(self, inputs: Any) -> Tensors:
        """The `inputs` of an Open Inference Protocol request in JSON. Raises Problem."""
        if type(inputs) is not list or not inputs:
            raise Problem(400, f"`inputs` must be a list of tensors: {self._names()}")
        found: dict[str, NDArray[Any]] = {}
        for one in inputs:
            if type(one) is not dict or type(one.get("name")) is not str:
                raise Problem(400, f"an input must be an object with `name`, `shape`, `datatype`, `data`: {show(one)}")
            port = self._port(one["name"], found)
            if "data" not in one:
                raise Problem(400, f"input {port.name!r} has no `data`")
            self._check_datatype(port, one.get("datatype"))
            found[port.name] = _shaped(port, checked_shape(port.name, one.get("shape")), one["data"])
        return self._tensors(found)

    def arrays(self, given: Sequence[Given]) -> Tensors:
        """Tensors in binary form. Raises Problem."""
        found: dict[str, NDArray[Any]] = {}
        for one in given:
            port = self._port(one.name, found)
            self._check_datatype(port, one.datatype)
            kind = NUMPY[port.datatype]
            values = np.asarray(one.values, dtype=object) if port.datatype == "BYTES" else np.asarray(one.values)
            if port.datatype in _LIMITS:
                _check_whole(port, values)
            elif port.datatype == "BOOL":
                _check_truth(port, values)
            found[port.name] = _fitted(port, one.shape, values.astype(kind, copy=False))
        return self._tensors(found)

    def columns(self, columns: Mapping[str, list[Any]]) -> Tensors:
        """One value per row and input, as data frames have them. Raises Problem."""
        found: dict[str, NDArray[Any]] = {}
        for name, values in columns.items():
            port = self._port(name, found)
            found[port.name] = _nested(port, values)
        return self._tensors(found)

    def matrix(self, rows: list[Any]) -> Tensors:
        """Rows for the only input of the graph, each with the shape that it wants. Raises Problem."""
        if len(self._ports) != 1:
            raise Problem(400, f"this model has {len(self._ports)} inputs: name them ({self._names()})")
        port = next(iter(self._ports.values()))
        return self._tensors({port.name: _nested(port, rows)})

    def _port(self, name: str, found: Mapping[str, Any]) -> Port:
        port = self._ports.get(name)
        if port is None:
            raise Problem(400, f"unknown input {str(name)[:100]!r}; expected {self._names()}")
        if name in found:
            raise Problem(400, f"input {name!r} comes twice")
        return port

    def _check_datatype(self, port: Port, datatype: Any) -> None:
        fits = datatype == "BYTES" if port.datatype == "BYTES" else type(datatype) is str and datatype in NUMBERS
        if not fits:
            raise Problem(400, f"input {port.name!r}: expected datatype {port.datatype}, got {show(datatype)}")

    def _tensors(self, found: Mapping[str, NDArray[Any]]) -> Tensors:
        missing = [name for name in self._ports if name not in found]
        if missing:
            raise Problem(400, f"missing input{'s'[: len(missing) > 1]} {', '.join(map(repr, missing[:20]))}")
        arrays = tuple(found[name] for name in self._ports)
        if not self._batched:
            return Tensors(1, arrays)
        rows = len(arrays[0])
        for port, one in zip(self._ports.values(), arrays, strict=True):
            if len(one) != rows:
                first = next(iter(self._ports))
                raise Problem(400, f"input {port.name!r} has {len(one)} rows, input {first!r} has {rows}")
        if rows == 0:
            raise Problem(400, "the request has no rows")
        return Tensors(rows, arrays)

    def _names(self) -> str:
        return ", ".join(f"{p.name} ({p.datatype} {p.shown})" for p in list(self._ports.values())[:40])


def _shaped(port: Port, shape: tuple[int, ...], data: Any) -> NDArray[Any]:
    """JSON's `data`, flat or nested, as an array of that shape."""
    flat = _flat(port.name, data)
    if len(flat) != prod(shape):
        raise Problem(
            400, f"input {port.name!r} of shape {list(shape)} needs {prod(shape)} values in `data`, got {len(flat)}"
        )
    return _fitted(port, shape, _values(port, flat))


def _nested(port: Port, rows: Any) -> NDArray[Any]:
    """Rows whose shape is their nesting. Raises Problem where they differ."""
    shape: list[int] = []
    level = rows
    while type(level) is list and len(shape) < len(port.shape) + 1:
        shape.append(len(level))
        level = level[0] if level else None
    flat = _flat(port.name, rows)
    if len(flat) != prod(shape):
        raise Problem(400, f"the rows of input {port.name!r} differ in shape: the first one gives {shape}")
    return _fitted(port, tuple(shape), _values(port, flat))


def _flat(name: str, data: Any) -> list[Any]:
    if type(data) is not list:
        raise Problem(400, f"`data` of input {name!r} must be a list, got {show(data)}")
    level: list[Any] = data
    for _ in range(16):
        if not any(type(one) is list for one in level):
            return level
        if any(type(one) is not list for one in level):
            raise Problem(400, f"`data` of input {name!r} mixes lists and values")
        level = [value for one in level for value in one]
    raise Problem(400, f"`data` of input {name!r} is nested too deep")


def _fitted(port: Port, shape: tuple[int, ...], values: NDArray[Any]) -> NDArray[Any]:
    """The array in the graph's shape; trailing axes of one element may be left out or be too many. Raises Problem."""
    wanted = port.shape
    if len(shape) != len(wanted):
        longer, shorter = (shape, wanted) if len(shape) > len(wanted) else (wanted, shape)
        if all(size in {1, None} for size in longer[len(shorter) :]):
            shape = shape[: len(wanted)] + (1,) * (len(wanted) - len(shape))
    if len(shape) != len(wanted) or any(w is not None and w != s for w, s in zip(wanted, shape, strict=False)):
        raise Problem(400, f"input {port.name!r}: expected shape {port.shown}, got {list(shape)}")
    return values.reshape(shape)


def _values(port: Port, flat: list[Any]) -> NDArray[Any]:
    """A flat array of the input's type. Raises Problem at the first value that does not fit."""
    datatype = port.datatype
    if datatype == "BYTES":
        if any(type(value) is not str for value in flat):
            flat = [_text(port, place, value) for place, value in enumerate(flat)]
        return np.array(flat, dtype=object)
    if datatype in _CODES:
        try:
            values = array(_CODES[datatype], flat)
        except (TypeError, OverflowError):
            values = array(_CODES[datatype], [_number(port, place, value) for place, value in enumerate(flat)])
        return np.array(values).astype(NUMPY[datatype], copy=False)
    return np.array([_whole(port, place, value) for place, value in enumerate(flat)], dtype=NUMPY[datatype])


def _text(port: Port, place: int, value: Any) -> str:
    if value is None:
        return ""
    if type(value) is not str:
        raise Problem(400, f"value {place} of input {port.name!r}: expected a string or null, got {show(value)}")
    return value


def _number(port: Port, place: int, value: Any) -> float:
    if value is not None and not isinstance(value, int | float):
        raise Problem(400, f"value {place} of input {port.name!r}: expected a number or null, got {show(value)}")
    try:
        return nan if value is None else float(value)
    except OverflowError:
        raise Problem(400, f"value {place} of input {port.name!r} is too large for a float") from None


def _whole(port: Port, place: int, value: Any) -> int:
    if not isinstance(value, int | float) or value != value // 1:
        raise Problem(400, f"value {place} of input {port.name!r}: expected {_kind(port)}, got {show(value)}")
    least, most = (0, 1) if port.datatype == "BOOL" else (_LIMITS[port.datatype].min, _LIMITS[port.datatype].max)
    if not least <= value <= most:
        raise Problem(400, f"value {place} of input {port.name!r}: {value} does not fit {port.datatype}")
    return int(value)


def _kind(port: Port) -> str:
    return "true or false" if port.datatype == "BOOL" else "a whole number"


def _check_whole(port: Port, values: NDArray[Any]) -> None:
    """Raise Problem unless all values are whole numbers that the input's type holds."""
    limits = _LIMITS[port.datatype]
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and np.array_equal(values, np.floor(values))):
        raise Problem(400, f"input {port.name!r}: expected whole numbers for {port.datatype}")
    if values.size and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise Problem(400, f"input {port.name!r}: a value does not fit {port.datatype}")


def _check_truth(port: Port, values: NDArray[Any]) -> None:
    """Raise Problem unless all values are 0 or 1. Bytes of a BOOL tensor may be anything."""
    seen = values.view(np.uint8) if values.dtype == np.bool_ else values
    if np.any((seen != 0) & (seen != 1)):
        raise Problem(400, f"input {port.name!r}: expected true or false, as 1 or 0")
