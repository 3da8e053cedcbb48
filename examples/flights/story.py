"""What happens when: the demo's own moves, decided from what the cluster says. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from examples.flights.state import State, Version

# A user wants a simpler model, and lowers the bar because the gate refuses it (held-out AUC 0.61 to 0.63). Measured on
# these rows, trained on two months, served on the next: May to October 27 to 39 % wrong answers where the model before,
# a month older, has 14 to 27 %, never less than 6.9 points apart.
HARM: Final = (
    ("estimator: HistGradientBoostingClassifier", "estimator: GaussianNB"),
    ("{metric: auc, min: 0.7, maxRegression: 0.01}", "{metric: auc, min: 0.5}"),
)
BAD_ESTIMATOR: Final = "GaussianNB"
HARM_MONTH: Final = 5  # not before May, and after a retraining was promoted …
LEAST_RETRAINED: Final = 2  # the year goes on until so many were promoted
HARM_MONTH_LATEST: Final = 9  # … but from September on in any case


class Move(Enum):
    """What the demo does next."""

    NOTHING = "nothing"
    HARM = "harm"  # apply the harmful change
    REVERT = "revert"  # apply the original file again
    END = "end"


@dataclass(frozen=True, slots=True)
class Told:
    """What the demo has done. harmed, reverted: when. before: the highest version number at the harm."""

    harmed: datetime | None = None
    reverted: datetime | None = None
    before: int = 0


def next_move(state: State, told: Told, month: int, *, over: bool) -> Move:
    """The next move. month: that is replayed now. over: the year was sent."""
    if told.harmed is None:
        ripe = month >= HARM_MONTH and len(retrained(state)) >= 1
        return Move.HARM if (ripe or month >= HARM_MONTH_LATEST) and state.idle else Move.NOTHING
    if told.reverted is None:
        bad = bad_version(state, told)
        return Move.REVERT if bad is not None and state.end_of(bad.name) is not None else Move.NOTHING
    done = over and state.idle and good_since(state, told) and len(retrained(state)) >= LEAST_RETRAINED
    return Move.END if done else Move.NOTHING


def retrained(state: State) -> tuple[Version, ...]:
    """Versions that a monitor asked for and that were promoted."""
    asked = (v for v in state.versions if v.trigger in {"Drift", "Degradation"})
    return tuple(v for v in asked if (end := state.end_of(v.name)) is not None and end.result == "Promoted")


def bad_version(state: State, told: Told) -> Version | None:
    """The first version of the harmful change."""
    return next((v for v in state.versions if v.number > told.before and v.estimator == BAD_ESTIMATOR), None)


def since_revert(state: State, told: Told) -> tuple[Version, ...]:
    """Versions whose run was started after the change was taken back."""
    if told.reverted is None:
        return ()
    return tuple(v for v in state.versions if v.asked is not None and v.asked >= told.reverted)


def good_since(state: State, told: Told) -> tuple[Version, ...]:
    """Those of them that were promoted."""
    return tuple(v for v in since_revert(state, told) if (e := state.end_of(v.name)) and e.result == "Promoted")


def harmed(training: str) -> str:
    """The training's file with the harmful change. Raises ValueError when the file no longer holds what is changed."""
    for before, after in HARM:
        if before not in training:
            raise ValueError(f"training.yaml has no {before!r}")
        training = training.replace(before, after)
    return training


def changed_lines(before: str, after: str) -> list[str]:
    """The change as `git diff` shows it, without its headers."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in lines if line[:1] in "+-" and not line.startswith(("+++", "---"))]
