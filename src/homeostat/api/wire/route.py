"""The route: what a front pod does with the requests it receives. Annotation on pods, read through a downward-API file."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["candidate", "holdback", "stable"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$")]  # a header's, in lower case
Url = Annotated[str, Field(max_length=300)]
LANES = 8
_SPARE = ("mirror", "sticky", "rules", "choices", "young_until")  # not written while they say nothing


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Mirror(_Part):
    """Copies of `percent` of the requests that this pod answers itself go to the shadow, after the user has the answer.

    target: base URL of the shadow's Service. version: its child name, the side that agreement is counted under.
    tolerance: how far two scores may lie apart that still agree; labels must be equal.
    deadline_ms: a copy that takes longer has failed.
    """

    target: Annotated[Url, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1, max_length=63)]
    percent: int = Field(default=100, ge=0, le=100)
    tolerance: float = Field(default=1e-3, ge=0)
    deadline_ms: int = Field(default=5000, ge=1, le=60_000)


class Sticky(_Part):
    """Requests with one key stay on one side. The key is a header's value, or a cookie's: exactly one is named.

    salt: the new version's digest, in the routes of both versions. A key belongs to the new version when its hash lies
    below that version's share, so that a growing share only adds keys and none changes side at the flip.
    """

    header: Name | Literal[""] = ""
    cookie: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{0,64}$")] = ""
    salt: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.header) == bool(self.cookie):
            raise ValueError("sticky: name either `header` or `cookie`")
        return self


class Rule(_Part):
    """Requests whose `header` has exactly this value go to `track`, whatever the weight, and enter no comparison.

    A track that is the route's own goes to the target; every other one stays with the pod's own version.
    """

    header: Name
    exact: Annotated[str, Field(max_length=256)]
    track: Role = "candidate"


class Route(_Part):
    """Send `weight` percent of the requests without hop header to `target`.

    epoch: counter of the deployment's routes; pods report the one that they apply.
    target: base URL of the other version's Service, for example `http://flights-v8.ml.svc:8080`; empty: keep all.
    version: the other version's child name (`v8`), the side that its share is counted under.
    track: role under which the other side runs the request. `candidate`: the target is the new version, else the old.
    deadline_ms: a forward that takes longer fails and is answered here (when `fallback`).
    drain: answers carry `Connection: close`, so that clients leave this pod.
    rules: the first that fits decides. choices: tracks that a client may ask for by the header `x-homeostat-track`.
    young_until: Unix seconds; until then a pod of the target is new, and forwards that time out enter no comparison.
    """

    v: Literal[1] = 1
    epoch: int = Field(ge=0)
    target: Url = ""
    version: str = ""
    track: Role = "candidate"
    weight: int = Field(default=0, ge=0, le=100)
    deadline_ms: int = Field(default=1000, ge=1)
    fallback: bool = True
    drain: bool = False
    mirror: Mirror | None = None
    sticky: Sticky | None = None
    rules: Annotated[tuple[Rule, ...], Field(max_length=16)] = ()
    choices: Annotated[tuple[Role, ...], Field(max_length=3)] = ()
    young_until: float = Field(default=0, ge=0)

    def to_text(self) -> str:
        """The annotation's value: compact JSON with a stable order."""
        return self.model_dump_json(exclude={name for name in _SPARE if not getattr(self, name)})
