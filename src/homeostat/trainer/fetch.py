"""Step 1: bring the data sets and the champion's bundle into the workspace, tags resolved to digests."""

import sys
from pathlib import Path

from homeostat.api.wire.run import DataUsed, RunPlan
from homeostat.artifacts.oci import Client, Pulled
from homeostat.errors import ArtifactError
from homeostat.trainer.workspace import Workspace


def run(plan: RunPlan, workspace: Workspace) -> None:
    """Pull everything. Raises ArtifactError: `DataNotFound`, `ChampionNotFound`, or one of the client's."""
    client = Client(plan.plain_http)
    used = []
    for role, uri in sorted(plan.data.items()):
        pulled = _pull(client, uri, workspace.input(role), "DataNotFound", f"data.{role}")
        used.append(DataUsed(name=role, uri=uri, digest=pulled.digest))
        sys.stdout.write(f"{role}: {uri} is {pulled.digest}\n")
    workspace.keep_data(tuple(used))
    if plan.champion is not None:
        _pull(client, plan.champion.uri, workspace.champion, "ChampionNotFound", f"champion {plan.champion.name}")


def _pull(client: Client, uri: str, to: Path, missing: str, what: str) -> Pulled:
    try:
        return client.pull(uri, to)
    except ArtifactError as error:
        reason = missing if error.reason == "ArtifactNotFound" else error.reason
        raise ArtifactError(reason, f"{what}: {error.because}", permanent=error.permanent) from error
