"""The pod bridge, the route of Services, address translation; made and removed by name."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deploy.local.layout import BRIDGE, GATEWAY, POD_RANGE, SERVICE_RANGE
from deploy.local.progress import call

SYSCTLS = {"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1"}
TABLE = "homeostat-local"
FIX = "run `make down`, then `make up`; if it stays, another program manages the same names"


def _setting(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def current_settings() -> dict[str, str]:
    """Kernel settings as they are before we change them."""
    return {name: _setting(name).read_text().strip() for name in SYSCTLS if _setting(name).exists()}


def restore_settings(before: dict[str, str]) -> None:
    """Give the kernel settings back that we changed."""
    for name, value in before.items():
        if value != SYSCTLS.get(name) and _setting(name).exists():
            _setting(name).write_text(value)


def present() -> bool:
    """True when bridge and table are there."""
    return Path("/sys/class/net", BRIDGE).exists() and TABLE in _quiet(["nft", "list", "tables"])


def make() -> None:
    """Make bridge, route, table and settings; what is there already stays.

    The bridge's address is the node's address too. Service addresses are routed to the bridge, so one without endpoints never leaves
    the machine (a blackhole route would be looked up before kube-proxy's rewrite).
    """
    if not Path("/sys/class/net", BRIDGE).exists():
        call(["ip", "link", "add", BRIDGE, "type", "bridge"], fix=FIX)
    call(["ip", "address", "replace", f"{GATEWAY}/24", "dev", BRIDGE], fix=FIX)
    call(["ip", "link", "set", BRIDGE, "up"], fix=FIX)
    for name, value in SYSCTLS.items():
        _setting(name).write_text(value)
    call(["ip", "route", "replace", SERVICE_RANGE, "dev", BRIDGE], fix=FIX)
    _quiet(["nft", "delete", "table", "ip", TABLE])
    masquerade = f"ip saddr {POD_RANGE} ip daddr != {{ {POD_RANGE}, {SERVICE_RANGE} }} masquerade;"
    hook = "type nat hook postrouting priority srcnat;"
    call(["nft", f"table ip {TABLE} {{ chain postrouting {{ {hook} {masquerade} }}; }}"], fix=FIX)


def remove(*, with_proxy: bool) -> None:
    """Remove everything of ours: interfaces (routes go with them) and tables; with_proxy: our kube-proxy's tables too."""
    ports = Path("/sys/class/net", BRIDGE, "brif")
    for port in sorted(ports.iterdir()) if ports.exists() else []:
        _quiet(["ip", "link", "delete", port.name])
    _quiet(["ip", "link", "delete", BRIDGE])
    proxy = (("ip", "kube-proxy"), ("ip6", "kube-proxy")) if with_proxy else ()
    for family, table in (("ip", TABLE), *proxy):
        _quiet(["nft", "delete", "table", family, table])


def _quiet(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
