"""What Triton's clients ask for beyond the Open Inference Protocol: the model's configuration, and what there is not. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from homeostat.server.settings import Settings

EXTENSION: Final = "model_configuration"
_STATISTICS: Final = (
    "statistics of this kind are not kept: GET /metrics or /stats on the admin port ({admin_port}) has more"
)
_LOADING: Final = (
    "models are not loaded or unloaded over the network: a pod serves one version of one model, here {name!r}"
)
_TRACING: Final = "trace settings are not changed over the network: a request with the header `traceparent` is traced"
_LOGGING: Final = "log settings are not changed over the network"
_SHARED: Final = "shared memory is not supported: send the tensors in the request"
_PATHS: Final = {  # a part of the path: what is said
    "/v2/repository/models": _LOADING,
    "/trace/setting": _TRACING,
    "/v2/logging": _LOGGING,
    "/v2/systemsharedmemory": _SHARED,
    "/v2/cudasharedmemory": _SHARED,
}
_METHODS: Final = {
    "ModelStatistics": _STATISTICS,
    "RepositoryModelLoad": _LOADING,
    "RepositoryModelUnload": _LOADING,
    "TraceSetting": _TRACING,
    "LogSettings": _LOGGING,
    "SystemSharedMemoryStatus": _SHARED,
    "SystemSharedMemoryRegister": _SHARED,
    "SystemSharedMemoryUnregister": _SHARED,
    "CudaSharedMemoryStatus": _SHARED,
    "CudaSharedMemoryRegister": _SHARED,
    "CudaSharedMemoryUnregister": _SHARED,
}


def config(metadata: Mapping[str, Any], max_batch_rows: int) -> dict[str, Any]:
    """The model's configuration in Triton's words. metadata: of the model, as clients see it.

    max_batch_size: rows of one run; 0 for a model whose first axes are not rows. dims: without the rows' axis.
    """
    sides = {"input": metadata["inputs"], "output": metadata["outputs"]}
    by_rows = all(one["shape"][:1] == [-1] for tensors in sides.values() for one in tensors)
    found: dict[str, Any] = {
        "name": metadata["name"],
        "platform": metadata["platform"],
        "backend": "onnxruntime",
        "max_batch_size": max_batch_rows if by_rows else 0,
    }
    for side, tensors in sides.items():
        found[side] = [
            {"name": one["name"], "data_type": _type(one["datatype"]), "dims": one["shape"][by_rows:]}
            for one in tensors
        ]
    return found


def _type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def index(settings: Settings, *, ready: bool) -> dict[str, str]:
    """This server's entry in a repository's index."""
    state, reason = ("READY", "") if ready else ("UNAVAILABLE", "this pod is about to end")
    return {"name": settings.name, "version": settings.version, "state": state, "reason": reason}


def absent_path(path: str, settings: Settings) -> str | None:
    """Why there is nothing at a path where Triton has something; None for any other path."""
    statistics = path.startswith("/v2/models/") and path.endswith("/stats")
    said = _STATISTICS if statistics else next((text for part, text in _PATHS.items() if part in path), None)
    return said and said.format(admin_port=settings.admin_port, name=settings.name)


def absent_methods(settings: Settings) -> dict[str, str]:
    """Methods of Triton's service that there are not, and why."""
    return {name: said.format(admin_port=settings.admin_port, name=settings.name) for name, said in _METHODS.items()}
