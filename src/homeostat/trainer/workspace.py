"""The folder that the steps of a run share, and the message that each leaves behind."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from homeostat.api.wire.run import DataUsed, RunPlan, RunSummary
from homeostat.errors import ArtifactError

MAX_MESSAGE: Final = 2048


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where the steps read and write. `root` outlives a step, `termination` is read by the kubelet."""

    root: Path
    termination: Path

    @classmethod
    def from_env(cls) -> "Workspace":
        """From `HOMEOSTAT_WORK` (default /work) and `TERMINATION_LOG` (default /dev/termination-log)."""
        return cls(
            Path(os.environ.get("HOMEOSTAT_WORK", "/work")),
            Path(os.environ.get("TERMINATION_LOG", "/dev/termination-log")),
        )

    def input(self, role: str) -> Path:
        """The folder of a data set."""
        return self.root / "input" / role

    @property
    def champion(self) -> Path:
        """The champion's bundle."""
        return self.root / "champion"

    @property
    def output(self) -> Path:
        """The new bundle's files."""
        return self.root / "output"

    @property
    def _summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def _data(self) -> Path:
        return self.root / "data.json"

    def keep_data(self, used: tuple[DataUsed, ...]) -> None:
        """Note what was fetched."""
        self._data.write_text(json.dumps([one.model_dump() for one in used]))

    def data(self) -> tuple[DataUsed, ...]:
        """What `fetch` noted. Raises ArtifactError when it did not run."""
        return tuple(DataUsed.model_validate(one) for one in json.loads(_read(self._data, "fetch")))

    def keep_summary(self, summary: RunSummary) -> None:
        """Note how the fit ended, for `publish`."""
        self._summary.write_text(summary.model_dump_json())

    def summary(self) -> RunSummary:
        """What `fit` noted. Raises ArtifactError when it did not run."""
        return RunSummary.model_validate_json(_read(self._summary, "fit"))

    def tell(self, summary: RunSummary) -> None:
        """Leave the termination message; a message file that cannot be written is no reason to fail a run."""
        try:
            self.termination.write_bytes(message(summary))
        except OSError:
            return


def plan_from_env() -> RunPlan:
    """The run's plan from `HOMEOSTAT_RUN`. Raises ArtifactError `PlanInvalid` with the field that is wrong."""
    text = os.environ.get("HOMEOSTAT_RUN", "")
    if not text:
        raise ArtifactError("PlanInvalid", "HOMEOSTAT_RUN is empty: it has to hold the run's plan as JSON")
    try:
        return RunPlan.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the text"
        raise ArtifactError("PlanInvalid", f"HOMEOSTAT_RUN: {where}: {first['msg']}") from error


def message(summary: RunSummary) -> bytes:
    """The summary as JSON of at most 2,048 bytes: long texts are cut, then detail is left out, never the outcome."""
    for texts in (MAX_MESSAGE, 600, 200, 80):
        cut = summary.model_copy(
            update={
                "message": _cut(summary.message, texts),
                "gates": tuple(g.model_copy(update={"required": _cut(g.required, texts)}) for g in summary.gates),
            }
        )
        if len(packed := _pack(cut)) <= MAX_MESSAGE:
            return packed
    for field in ("champion_metrics", "data", "gates", "metrics"):
        cut = cut.model_copy(update={field: type(getattr(cut, field))()})
        if len(packed := _pack(cut)) <= MAX_MESSAGE:
            return packed
    return _pack(RunSummary(outcome=summary.outcome, reason=summary.reason[:64], permanent=summary.permanent))


def _pack(summary: RunSummary) -> bytes:
    return json.dumps(
        {"v": summary.v, **summary.model_dump(exclude_defaults=True)}, ensure_ascii=False, separators=(",", ":")
    ).encode()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _read(path: Path, step: str) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ArtifactError("StepMissing", f"{path} is not there: `homeostat train {step}` has to run first") from error
