"""The base of every kind: frozen, camelCase, bounded, with CEL rules that the CRD carries."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from homeostat.api.names import DIGEST_PATTERN

_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
TEXT_LENGTH: Final = 2048  # of every sentence in a status
DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule of the CRD: `message` names the fix, `field` the path below the model that carries the rule."""

    rule: str
    message: str
    field: str = ""


class ApiModel(BaseModel):
    """A frozen piece of a custom resource. Unknown fields are ignored on reading: a newer CRD may have them."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")
    cel: ClassVar[tuple[Rule, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON as the API server stores it: camelCase, without unset values."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Duration(str):
    """A Go-style duration such as `90s`, `5m` or `1h30m`; `.seconds` is its length."""

    __slots__ = ()

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(self))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A bounded string that matches the pattern, wrapped into this class."""
        plain = core_schema.str_schema(pattern=DURATION_PATTERN, min_length=2, max_length=20)
        return core_schema.no_info_after_validator_function(cls, plain)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema of the string inside."""
        return {"type": "string", "pattern": DURATION_PATTERN, "minLength": 2, "maxLength": 20}


Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN, max_length=71)]
Uri = Annotated[str, Field(min_length=1, max_length=1024)]
Text = Annotated[str, Field(max_length=TEXT_LENGTH)]
Instant = Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
Quantity = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
