"""`up`: from any state of the machine to a running cluster, changing only what has to change."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

from deploy.local import (
    archive,
    build,
    certificates,
    checks,
    components,
    containerd,
    layout,
    network,
    objects,
    packages,
    processes,
    record,
    teardown,
)
from deploy.local.api import Api, condition
from deploy.local.components import Component
from deploy.local.layout import Layout
from deploy.local.progress import Problem, Step, call, note, step, wait_until
from deploy.local.record import Record

START_DEADLINE = 90.0  # seconds; 3 to 7 are usual


def up(of: Layout) -> None:
    """Bring the cluster up; raises Problem. Does nothing when it is up already."""
    began = time.monotonic()
    packages.complete_path()
    if running_well(of):
        print(f"the cluster is up already ({time.monotonic() - began:.1f} s)")
        return
    checks.memory()
    checks.disk([of.checkout, layout.cache()], cold=not build.built(build.MODULES["cluster"], of))
    packages.ensure(layout.cache() / "log")
    checks.kernel(of.local)
    binaries = build.binaries(build.MODULES["cluster"], of)
    pause = build.binaries(build.MODULES["pause"], of) / "pause"
    mine = _take_over(of)
    _prepare(of, binaries)
    _start(of, mine, binaries, pause)
    print(
        f"the cluster is up after {time.monotonic() - began:.1f} s: .local/bin/kubectl --kubeconfig .local/kubeconfig get pods -A"
    )


def running_well(of: Layout) -> bool:
    """True when every component runs as this checkout would start it, the API server answers and the node is Ready."""
    mine, plugins = record.load(), packages.plugins()
    if mine is None or not _is_mine(mine, of) or plugins is None or not network.present():
        return False
    cluster = build.MODULES["cluster"]
    if not build.built(cluster, of) or not (of.bin / "kubectl").exists() or not of.kubeconfig.exists():
        return False
    files = components.files(of, plugins)
    wanted = components.everything(of, cluster.output(of))
    if any(not _runs(mine, component, files) for component in wanted):
        return False
    if not all(component.healthy() for component in wanted):
        return False
    return condition(Api(of).get(f"/api/v1/nodes/{layout.NODE}"), "Ready")


def _is_mine(known: Record, of: Layout) -> bool:
    return known.checkout == str(of.checkout) and of.identity.exists() and known.identity == of.identity.read_text()


def _runs(mine: Record, component: Component, files: dict[str, str]) -> bool:
    process = mine.processes.get(component.name)
    return process is not None and process.alive and process.spec == component.spec(files)


def _take_over(of: Layout) -> Record:
    """The record of our own cluster; whatever else is left on the machine is taken down first."""
    known = record.load()
    if known and _is_mine(known, of) and known.boot == record.boot():
        return known
    if known or teardown.leftovers():
        whose = f"of {known.checkout}" if known and known.checkout != str(of.checkout) else "of an earlier, unclean end"
        with step(f"taking down what is left {whose}") as current:
            teardown.everything(known, [of.state], current)
    if not of.identity.exists() and of.pki.exists():
        note("the state in .local/state is half made: making it anew")
        teardown.unmount([str(of.state)])
        for folder in (of.state, of.volumes):
            shutil.rmtree(folder, ignore_errors=True)
    return Record(str(of.checkout), "", record.boot(), sysctl_before=network.current_settings())


def _prepare(of: Layout, binaries: Path) -> None:
    """Certificates, configuration, folders and links; the identity is written last and says that all of it is complete."""
    plugins = packages.plugins()
    if plugins is None:
        raise Problem(
            "the CNI plugins are missing", f"run: {packages.install_command(['containernetworking-plugins'])}"
        )
    if not of.identity.exists():
        with step("certificates"):
            certificates.make(of)
    for name, text in components.files(of, plugins).items():
        target = of.config / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for user, target in (
        ("admin", of.state / "admin.kubeconfig"),
        ("kubelet", of.state / "kubelet.kubeconfig"),
        ("admin", of.kubeconfig),
    ):
        target.touch(mode=0o600)
        target.write_text(certificates.kubeconfig(of, user))
    for number in range(layout.VOLUMES):
        folder = of.volumes / f"local-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # the kubelet gives a hostPath to no group, and our pods run as no one special
    build.link_tools(binaries, of)
    if not of.identity.exists():
        of.identity.write_text(secrets.token_hex(8))


def _start(of: Layout, mine: Record, binaries: Path, pause: Path) -> None:
    mine.identity = of.identity.read_text()
    for name in [name for name, process in mine.processes.items() if not process.alive]:
        note(f"{name} has ended, starting it again")
        del mine.processes[name]
    mine.save()
    layout.RUN.chmod(0o700)
    network.make()
    api = Api(of)
    with step("etcd, containerd, API server") as current:
        _ensure(of, mine, components.foundation(of, binaries), current)
        server = components.api_server(of, binaries)
        _ensure(of, mine, [server], current, wait=False)
        _import_pause(of, pause)
        _await(of, mine, server, current)
        _await_true(of, mine, "the API server is ready", api.ready, current)
    with step("controllers, kubelet, proxy, DNS, metrics") as current:
        _ensure(of, mine, [*components.controllers(of, binaries), *components.node(of, binaries)], current)
        for path, manifest in objects.all_of(of):
            api.apply(path, manifest)
    with step("node and metrics API") as current:
        _await_true(
            of, mine, "the node is Ready", lambda: condition(api.get(f"/api/v1/nodes/{layout.NODE}"), "Ready"), current
        )
        metrics = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
        _await_true(of, mine, "the metrics API is available", lambda: condition(api.get(metrics), "Available"), current)
        _await_true(
            of,
            mine,
            "default service account",
            lambda: bool(api.get("/api/v1/namespaces/default/serviceaccounts/default")),
            current,
        )


def _ensure(of: Layout, mine: Record, wanted: list[Component], current: Step, *, wait: bool = True) -> None:
    """Start each component that does not run as wanted; wait until they answer."""
    plugins = packages.plugins()
    assert plugins is not None
    files = components.files(of, plugins)
    for component in wanted:
        if _runs(mine, component, files):
            continue
        if (old := mine.processes.pop(component.name, None)) is not None:
            if old.alive:
                current.say(f"{component.name} has changed, restarting it")
            processes.end([old], grace=component.grace)
        for address, number in component.ports:
            checks.port(address, number, component.name)
        mine.processes[component.name] = processes.start(
            component.argv, of.log / f"{component.name}.log", component.spec(files)
        )
        mine.save()
    for component in wanted if wait else ():
        _await(of, mine, component, current)


def _await(of: Layout, mine: Record, component: Component, current: Step) -> None:
    _await_true(of, mine, f"{component.name} answers", component.healthy, current)


def _await_true(of: Layout, mine: Record, what: str, ready: object, current: Step) -> None:
    """Wait, but not for a cluster of which a part has ended: then say which, with the end of its log."""
    assert callable(ready)

    def ready_or_dead() -> bool:
        for name, process in mine.processes.items():
            if not process.alive:
                log = of.log / f"{name}.log"
                tail = "\n    ".join(log.read_text(errors="replace").strip().splitlines()[-5:])
                raise Problem(
                    f"{name} ended right after its start:\n    {tail}",
                    f"see {log}; when its state is broken: make down, remove .local/state and .local/volumes, make up",
                )
        return bool(ready())

    wait_until(
        what,
        ready_or_dead,
        deadline=START_DEADLINE,
        current=current,
        fix=f"see the logs in {of.log}, then run `make up` again",
    )


def _import_pause(of: Layout, binary: Path) -> None:
    """The image of pod sandboxes; its content is fixed by the binary, so an import of the same changes nothing."""
    if layout.PAUSE_IMAGE in containerd.images() and (of.state / "pause.tar").exists():
        return
    manifest, blobs = archive.single_layer({"pause": (binary, 0o755)}, ["/pause"])
    target = of.state / "pause.tar"
    archive.write(target, manifest, len(blobs[manifest.removeprefix("sha256:")]), [layout.PAUSE_IMAGE], blobs)
    containerd.load(target)


def down(of: Layout) -> None:
    """Take down the cluster of this machine, whichever checkout started it; raises Problem when something stays."""
    packages.complete_path()
    known = record.load()
    if known is None and not teardown.leftovers():
        print("no local cluster is running")
        return
    with step("taking the cluster down") as current:
        teardown.everything(known, [of.state], current)


def kubectl(of: Layout, *words: str) -> str:
    """Output of kubectl against the local cluster."""
    return call([of.bin / "kubectl", "--kubeconfig", of.kubeconfig, *words], fix="run `make up`")
