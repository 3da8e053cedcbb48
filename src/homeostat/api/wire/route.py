"""The route: what a front pod does with the requests it receives. Annotation on pods, read through a downward-API file."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Route(BaseModel):
    """Send `weight` percent of the requests without hop header to `target`.

    epoch: counter of the deployment's routes; pods report the one that they apply.
    target: base URL of the other version's Service, for example `http://flights-v8.ml.svc:8080`; empty: keep all.
    version: the other version's child name (`v8`), the side that its share is counted under.
    track: role under which the other side runs the request.
    deadline_ms: a forward that takes longer fails and is answered here (when `fallback`).
    drain: answers carry `Connection: close`, so that clients leave this pod.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    epoch: int = Field(ge=0)
    target: str = ""
    version: str = ""
    track: Literal["candidate", "holdback", "stable"] = "candidate"
    weight: int = Field(default=0, ge=0, le=100)
    deadline_ms: int = Field(default=1000, ge=1)
    fallback: bool = True
    drain: bool = False

    def to_text(self) -> str:
        """The annotation's value: compact JSON with a stable order."""
        return self.model_dump_json()
