"""What an ONNX file must be before any runtime sees it: well formed, of known operators, not too big, alone in its folder.

Everything here runs in the check's own limited process (`server.check`): the file is hostile until proven otherwise.
"""

import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from homeostat.errors import ArtifactError

MAX_NODES: Final = 100_000
_ONNX: Final = ("", "ai.onnx.ml")
_RUNTIME: Final = "com.microsoft"
_FIX: Final = "export the model to ONNX (for example with skl2onnx or torch.onnx) and push that file"


def inspect(path: Path, max_bytes: int) -> None:
    """Look at the file and at all that it names, in this order: checker, node cap, operators, external weights.

    Raises ArtifactError: `NotOnnx`, `TooManyNodes`, `OperatorNotAllowed`, `ExternalDataRefused`, `ModelTooLarge`.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except (DecodeError, UnicodeDecodeError, RuntimeError, ValueError) as error:
        raise ArtifactError("NotOnnx", f"{path.name} is not a valid ONNX model: {_first(error)}; {_FIX}") from error
    outside = _external_problem(model, path, max_bytes)
    if outside is not None:
        raise outside
    try:
        onnx.checker.check_model(str(path))
    except (DecodeError, onnx.checker.ValidationError, UnicodeDecodeError, RuntimeError, ValueError) as error:
        raise ArtifactError("NotOnnx", f"{path.name} is not a valid ONNX model: {_first(error)}; {_FIX}") from error
    try:
        _Functions(model).count()
    except RecursionError as error:
        raise _too_many("functions call each other too deeply") from error
    _allowed(model)


class _Functions:
    """Nodes of a model with its functions written out, as the runtime does: functions of functions grow exponentially."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._bodies = {(f.domain, f.name): f for f in model.functions}
        self._sizes: dict[tuple[str, str], int] = {}
        self._open: set[tuple[str, str]] = set()

    def count(self) -> int:
        """All nodes. Raises ArtifactError `TooManyNodes`, `NotOnnx` for a function that calls itself."""
        for called in self._bodies:
            self._of_function(called)
        return self._of(nodes_of(self._model.graph))

    def _of(self, nodes: Iterator[Any]) -> int:
        total = 0
        for node in nodes:
            called = (node.domain, node.op_type)
            total += 1 + (self._of_function(called) if called in self._bodies else 0)
            if total > MAX_NODES:
                raise _too_many(f"the graph has more than {MAX_NODES} nodes, subgraphs and functions included")
        return total

    def _of_function(self, called: tuple[str, str]) -> int:
        if called in self._open:
            raise ArtifactError("NotOnnx", f"function {called[1][:100]!r} calls itself; {_FIX}")
        if called not in self._sizes:
            self._open.add(called)
            self._sizes[called] = self._of(nodes_of(self._bodies[called]))
            self._open.discard(called)
        return self._sizes[called]


def nodes_of(graph: Any) -> Iterator[Any]:
    """The nodes of a graph or function and of all graphs inside their attributes."""
    waiting = [graph]
    while waiting:
        for node in waiting.pop().node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting += attribute.graphs


def _allowed(model: Any) -> None:
    """Raise ArtifactError `OperatorNotAllowed` for the first operator that is neither ONNX's, the runtime's nor the model's own."""
    known = _operators() | {(f.domain, f.name) for f in model.functions}
    for body in (model.graph, *model.functions):
        for node in nodes_of(body):
            domain = "" if node.domain == "ai.onnx" else node.domain
            if (domain, node.op_type) not in known:
                raise ArtifactError(
                    "OperatorNotAllowed",
                    f"node {(node.name or node.op_type)[:100]!r} is of operator {node.op_type[:100]!r} in domain "
                    f"{(domain or 'ai.onnx')[:100]!r}; allowed are the operators of ai.onnx and ai.onnx.ml and those of "
                    f"{_RUNTIME} that run on a CPU: export the model without custom operators",
                )


@cache
def _operators() -> set[tuple[str, str]]:
    """Domain and name of all operators of ONNX, and of the runtime's own those that have a kernel for the CPU."""
    import onnxruntime.capi.onnxruntime_pybind11_state as runtime

    known = {(s.domain, s.name) for s in runtime.get_all_operator_schema() if s.domain in _ONNX}
    kernels = (k for k in runtime.get_all_opkernel_def() if k.domain == _RUNTIME)
    return known | {(_RUNTIME, k.op_name) for k in kernels if k.provider == "CPUExecutionProvider"}


def _external_problem(model: Any, path: Path, max_bytes: int) -> ArtifactError | None:
    """What is wrong with the files that the tensors of the model lie in."""
    sizes: dict[str, int] = {}
    for tensor in _tensors(model):
        if not tensor.external_data and tensor.data_location == 0:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        location = said.get("location", "")
        location = location if isinstance(location, str) else ""  # bytes that are no UTF-8
        wrong = "" if location in sizes else refusal(path.parent, location)
        if wrong:
            return ArtifactError(
                "ExternalDataRefused",
                f"the weights of {tensor.name[:100]!r} lie in {location[:200]!r}, {wrong}: put plain files beside "
                f"{path.name} and push them with it, or save the model with its weights inside",
            )
        sizes[location] = os.lstat(path.parent / location).st_size
    total = path.stat().st_size + sum(sizes.values())
    if total > max_bytes:
        return ArtifactError(
            "ModelTooLarge",
            f"{path.name} and its weights have {total} bytes; at most {max_bytes} are loaded (--max-model-bytes)",
        )
    return None


def refusal(folder: Path, location: str) -> str:
    """Why weights may not lie there; empty when they may: a plain file in the folder, under no other name."""
    parts = Path(location).parts
    if not location or "\0" in location or "\\" in location:
        return "which is no file's name"
    if Path(location).is_absolute() or ".." in parts:
        return "outside of the model's folder"
    place = folder
    for part in parts:
        place /= part
        try:
            found = os.lstat(place)
        except OSError as error:
            return f"which cannot be read ({error.strerror})"
        if stat.S_ISLNK(found.st_mode):
            return "which is reached by a symbolic link"
    if not stat.S_ISREG(found.st_mode):
        return "which is no plain file"
    return "which is a hard link to a file with another name" if found.st_nlink > 1 else ""


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors, wherever a model may have one."""
    bodies = [model.graph, *model.functions, *(t.initialization for t in model.training_info)]
    bodies += [t.algorithm for t in model.training_info]
    while bodies:
        body = bodies.pop()
        yield from getattr(body, "initializer", ())
        for sparse in getattr(body, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for attribute in (*(a for node in body.node for a in node.attribute), *getattr(body, "attribute_proto", ())):
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            if attribute.HasField("g"):
                bodies.append(attribute.g)
            bodies += attribute.graphs


def _too_many(what: str) -> ArtifactError:
    return ArtifactError("TooManyNodes", f"{what}: simplify the model (for example with onnxsim) and push it again")


def _first(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
