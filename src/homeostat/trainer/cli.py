"""`homeostat train fetch|fit|publish`: one step of a run. Exit code 0, 42 when trying again cannot help, else 1."""

import argparse
import sys
import time
from importlib import import_module
from typing import Final

from homeostat.api.wire.run import PERMANENT_EXIT, RunSummary
from homeostat.errors import ArtifactError
from homeostat.trainer.workspace import Workspace, plan_from_env

# step: module with `run(plan, workspace) -> RunSummary | None`; None: nothing to say yet
_STEPS: Final = {
    "fetch": "homeostat.trainer.fetch",
    "fit": "homeostat.trainer.fit",
    "publish": "homeostat.trainer.publish",
}


def run(argv: list[str]) -> int:
    """Run the step argv[0] on the plan in `HOMEOSTAT_RUN`; a failure's summary is the termination message."""
    parser = argparse.ArgumentParser(prog="homeostat train", description="One step of a training run.")
    parser.add_argument("step", choices=tuple(_STEPS))
    step = parser.parse_args(argv).step
    workspace = Workspace.from_env()
    began = time.monotonic()
    try:
        summary = import_module(_STEPS[step]).run(plan_from_env(), workspace)
    except ArtifactError as error:
        return _fail(workspace, step, error.reason, error.because, permanent=error.permanent)
    except MemoryError:
        return _fail(
            workspace, step, "OutOfMemory", "the data do not fit: raise spec.resources.limits.memory", permanent=True
        )
    except Exception as error:
        _fail(workspace, step, "InternalError", f"{type(error).__name__}: {error}", permanent=False)
        raise
    if summary is not None:
        workspace.tell(summary)
        sys.stdout.write(summary.model_dump_json(exclude_defaults=True) + "\n")
    sys.stdout.write(f"{step}: done in {time.monotonic() - began:.1f} s\n")
    return 0


def _fail(workspace: Workspace, step: str, reason: str, because: str, *, permanent: bool) -> int:
    workspace.tell(RunSummary(outcome="Failed", reason=reason, message=because, permanent=permanent))
    sys.stderr.write(f"homeostat train {step}: {because} ({reason})\n")
    return PERMANENT_EXIT if permanent else 1
