"""Step 3: push the bundle, or say which gate held it back."""

import hashlib

from homeostat.api.wire import bundle
from homeostat.api.wire.run import RunPlan, RunSummary
from homeostat.artifacts.oci import Client
from homeostat.trainer.workspace import Workspace


def run(plan: RunPlan, workspace: Workspace) -> RunSummary:
    """The run's final summary. A failed gate pushes nothing. The tag is `v<number>`."""
    summary = workspace.summary()
    if summary.outcome != "Succeeded":
        return summary
    listed = (bundle.MODEL_FILE, bundle.SIGNATURE_FILE, bundle.BASELINE_FILE, bundle.METRICS_FILE)
    files = {name: workspace.output / name for name in listed}
    contents = []
    for name, path in files.items():
        with path.open("rb") as file:
            digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        contents.append(bundle.File(name=name, digest=digest, size=path.stat().st_size))
    table = workspace.output / bundle.MANIFEST_FILE
    table.write_text(bundle.Manifest(files=tuple(contents)).model_dump_json())
    files[bundle.MANIFEST_FILE] = table
    pushed = Client(plan.plain_http).push(files, f"{plan.repository}:v{plan.number}", bundle.ARTIFACT_TYPE)
    by_name = {one.name: one for one in contents}
    return summary.model_copy(
        update={
            "bundle_uri": f"{plan.repository}@{pushed}",
            "model_digest": by_name[bundle.MODEL_FILE].digest,
            "model_size": by_name[bundle.MODEL_FILE].size,
            "baseline_digest": by_name[bundle.BASELINE_FILE].digest,
        }
    )
