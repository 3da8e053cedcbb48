"""The chart as helm renders it: what it asks for, what it may, and what it refuses."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
import yaml

from cluster.ground import ROOT
from homeostat.api.crds import files

pytestmark = pytest.mark.cluster  # helm comes from the local cluster's build
CHART = str(ROOT / "charts/homeostat")
OURS = ROOT / ".local/bin/helm"
REGISTRY = ("--set", "registry.enabled=true")
Manifest = dict[str, Any]


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    program = str(OURS) if OURS.exists() else str(shutil.which("helm"))
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def render(*words: str) -> list[Manifest]:
    """All manifests of a release `homeostat` in `homeostat-system`."""
    done = helm("template", "homeostat", CHART, "--namespace", "homeostat-system", *words)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def of(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def rules(manifests: list[Manifest]) -> list[Manifest]:
    """Every rule that the operator's account gets."""
    roles = [r for r in of(manifests, "Role", "ClusterRole") if "aggregate" not in str(r["metadata"]["labels"])]
    return [rule for role in roles for rule in role["rules"]]


def environment(manifests: list[Manifest]) -> dict[str, str]:
    deployment = next(d for d in of(manifests, "Deployment") if d["metadata"]["name"] == "homeostat-operator")
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return {variable["name"]: variable.get("value", "") for variable in variables}


def test_lint_finds_nothing() -> None:
    done = helm("lint", "--strict", CHART, *REGISTRY)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_place_for_models_it_says_what_to_set() -> None:
    done = helm("template", "homeostat", CHART)
    assert done.returncode != 0
    assert "artifacts.uri" in done.stderr
    assert "registry.enabled=true" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        "artifacts.uri=https://registry.example.com",
        "operator.logLevel=LOUD",
        "operator.replicas=-1",
        "images.pullPolicy=Sometimes",
        "watchNamespaces={A_B}",
        "registry.enabeld=true",
    ],
)
def test_a_wrong_value_is_refused_by_the_schema(wrong: str) -> None:
    done = helm("template", "homeostat", CHART, *REGISTRY, "--set", wrong)
    assert done.returncode != 0
    assert wrong.split("=")[0].split(".")[-1] in done.stderr


def test_the_crds_are_the_generated_ones_and_stay() -> None:
    found = {crd["metadata"]["name"]: crd for crd in of(render(*REGISTRY), "CustomResourceDefinition")}
    wanted = {crd["metadata"]["name"]: crd for crd in map(yaml.safe_load, files().values())}
    assert {name: crd["spec"] for name, crd in found.items()} == {name: crd["spec"] for name, crd in wanted.items()}
    assert all(c["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for c in found.values())
    assert not of(render(*REGISTRY, "--set", "crds.enabled=false"), "CustomResourceDefinition")


@pytest.mark.parametrize("where", [(), ("--set", "watchNamespaces={a,b}")])
def test_the_operators_rights_hold_no_wildcard_no_secret_no_exec_and_no_role(where: tuple[str, ...]) -> None:
    for rule in rules(render(*REGISTRY, *where)):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert not {"secrets", "pods/exec", "pods/attach", "serviceaccounts/token", "configmaps"} & {*rule["resources"]}
        assert not {"escalate", "bind", "impersonate"} & {*rule["verbs"]}
        assert "rbac.authorization.k8s.io" not in rule["apiGroups"]


def test_the_operator_never_updates_or_creates_what_people_own() -> None:
    allowed = {
        (resource, verb)
        for rule in rules(render(*REGISTRY))
        if rule["apiGroups"] == ["homeostat.dev"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {verb for resource, verb in allowed if resource in ("modeltrainings", "modeldeployments")} == {
        "get",
        "list",
        "watch",
        "patch",
    }
    assert {verb for resource, verb in allowed if resource == "driftmonitors"} == {"get", "list", "watch"}


def test_named_namespaces_get_roles_and_the_cluster_none() -> None:
    manifests = render(*REGISTRY, "--set", "watchNamespaces={a,b}")
    cluster_wide = [r for r in of(manifests, "ClusterRole") if r["metadata"]["name"] == "homeostat-operator"]
    assert not cluster_wide
    assert not of(manifests, "ClusterRoleBinding")
    roles = {(r["metadata"]["namespace"], r["metadata"]["name"]) for r in of(manifests, "Role")}
    assert {("a", "homeostat-operator"), ("b", "homeostat-operator")} <= roles
    assert environment(manifests)["HOMEOSTAT_WATCH_NAMESPACES"] == "a,b"


def test_every_pod_is_restricted_with_a_read_only_root() -> None:
    deployments = of(render(*REGISTRY), "Deployment")
    assert len(deployments) == 2
    for deployment in deployments:
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod.get("hostNetwork")
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert container["readinessProbe"]
            assert container["livenessProbe"]


def test_selectors_match_their_pods() -> None:
    manifests = render(*REGISTRY)
    pods = [deployment["spec"]["template"]["metadata"]["labels"] for deployment in of(manifests, "Deployment")]
    selectors = [d["spec"]["selector"]["matchLabels"] for d in of(manifests, "Deployment", "PodDisruptionBudget")]
    selectors += [service["spec"]["selector"] for service in of(manifests, "Service")]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in of(manifests, "NetworkPolicy")]
    for selector in selectors:
        assert sum(selector.items() <= labels.items() for labels in pods) == 1, selector


def test_the_chart_s_own_registry_is_the_place_for_models() -> None:
    told = environment(render(*REGISTRY))
    assert told["HOMEOSTAT_ARTIFACTS_URI"] == "oci://homeostat-registry.homeostat-system.svc:5000"
    assert told["HOMEOSTAT_PLAIN_HTTP"] == "homeostat-registry.homeostat-system.svc:5000"


def test_another_registry_needs_no_pod_of_ours() -> None:
    manifests = render("--set", "artifacts.uri=oci://registry.example.com/ml", "--set", "artifacts.plainHttp={a:5000}")
    assert len(of(manifests, "Deployment")) == 1
    assert environment(manifests)["HOMEOSTAT_ARTIFACTS_URI"] == "oci://registry.example.com/ml"
    assert environment(manifests)["HOMEOSTAT_PLAIN_HTTP"] == "a:5000"


def test_an_image_may_be_a_tag_or_a_digest() -> None:
    digest = "sha256:" + "ab" * 32
    told = environment(
        render(*REGISTRY, "--set", f"images.server.tag={digest}", "--set", "images.trainer.repository=r.example/t")
    )
    assert told["HOMEOSTAT_SERVER_IMAGE"] == f"homeostat/server@{digest}"
    assert told["HOMEOSTAT_TRAINER_IMAGE"] == "r.example/t:0.1.0"
