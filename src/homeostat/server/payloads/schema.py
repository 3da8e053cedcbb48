"""What a model's rows look like in payloads: told by the worker that has loaded it to the process that writes them."""

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

if TYPE_CHECKING:  # the logger has no runtime
    from homeostat.server.inference.answers import Answers
    from homeostat.server.inference.model import Model

MAX_BYTES: Final = 16 << 20
INPUT_TYPES: Final = {"number": "FP32", "string": "BYTES"}


@dataclass(frozen=True, slots=True)
class Field:
    """One input or output. rank: axes of one row's value, 0: a single value.

    place: which of the model's outputs. label: its values are labels as JSON texts.
    """

    name: str
    datatype: str
    rank: int
    place: int = 0
    label: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """Inputs and outputs of one version.

    table: the inputs are columns, in the signature's order; else tensors. by_row: the first axis of tensors are rows.
    """

    model: str
    version: str
    table: bool
    by_row: bool
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]

    @classmethod
    def of(cls, model: "Model", answers: "Answers") -> Self:
        """The schema of a loaded model."""
        columns, by_row = model.signature.columns, bool(model.signature.columns) or model.graph.batched
        if columns:
            inputs = tuple(Field(c.name, INPUT_TYPES[c.type], 0) for c in columns)
        else:
            inputs = tuple(Field(p.name, p.datatype, _rank(p.shape, by_row=by_row)) for p in model.graph.inputs)
        outputs = tuple(
            Field(o.name, o.datatype, _rank(o.shape, by_row=by_row), o.place, o.label) for o in answers.outputs
        )
        return cls(answers.name, answers.version, bool(columns), by_row, inputs, outputs)

    def to_bytes(self) -> bytes:
        """As JSON."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_bytes(cls, text: bytes) -> Self:
        """The reverse of `to_bytes`."""
        found: dict[str, Any] = orjson.loads(text)
        for side in ("inputs", "outputs"):
            found[side] = tuple(Field(**one) for one in found[side])
        return cls(**found)


def _rank(shape: tuple[int | None, ...], *, by_row: bool) -> int:
    """Axes of one row's value; a lone axis of one element is none."""
    sizes = shape[1:] if by_row else shape
    return 0 if sizes in {(), (1,)} else len(sizes)


def write(descriptor: int, schema: Schema) -> None:
    """Leave the schema in shared memory: its size, then its text. All workers write the same."""
    text = schema.to_bytes()
    os.pwrite(descriptor, text, 8)
    os.pwrite(descriptor, len(text).to_bytes(8, "little"), 0)


def read(descriptor: int) -> Schema | None:
    """What a worker left; None before."""
    size = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    return Schema.from_bytes(os.pread(descriptor, min(size, MAX_BYTES), 8)) if size else None
