"""Configuration files of the components, as text; each setting that is not obvious says what fails without it."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.local import layout
from deploy.local.layout import BRIDGE, CONTAINERD_SOCKET, DNS_SERVICE, GATEWAY, POD_RANGE, RUN, Layout


def files(of: Layout, plugins: Path) -> dict[str, str]:
    """All configuration files by name below `.local/state/config`."""
    return {
        "containerd.toml": _containerd(of, plugins),
        "cni/10-homeostat.conflist": _network(),
        "kubelet.json": _kubelet(of),
        "Corefile": _dns(of),
        "resolv.conf": "# pods ask the cluster's DNS only\n",
        "recycler.json": _recycler(),
    }


def _containerd(of: Layout, plugins: Path) -> str:
    # restrict_oom_score_adj: else every sandbox fails where CAP_SYS_RESOURCE is missing (containers, CI machines)
    # netns_mounts_under_state_dir: else network namespaces lie among those of other programs in /run/netns
    return f"""\
version = 2
root = "{of.state}/containerd"
state = "{RUN}/containerd"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{of.state}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{layout.PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{of.config}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{RUN}/runc"
"""


def _network() -> str:
    # no ipMasq: the plugin would write iptables rules that outlive a killed pod; our own nft table does it (network.py)
    address_pool = {
        "type": "host-local",
        "dataDir": f"{RUN}/cni",
        "ranges": [[{"subnet": POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": address_pool,
    }
    return json.dumps({"cniVersion": "0.4.0", "name": "homeostat-local", "plugins": [bridge]}, indent=1)


def _kubelet(of: Layout) -> str:
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": GATEWAY,
            "failCgroupV1": False,  # machines of CI still have the first version
            "cgroupDriver": "cgroupfs",  # no systemd needed
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,  # else the kubelet wants to know the image file system's device
            "makeIPTablesUtilChains": False,  # else its iptables chains stay when it is gone
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "podLogsDir": f"{of.log}/pods",
            "volumePluginDir": f"{of.state}/kubelet/volume-plugins",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{of.pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "resolvConf": f"{of.config}/resolv.conf",
            "tlsCertFile": f"{of.pki}/kubelet.crt",
            "tlsPrivateKeyFile": f"{of.pki}/kubelet.key",
            "serializeImagePulls": False,
            "maxPods": 200,
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 99,  # our images come from no registry: collected ones could not be pulled again
            "imageGCLowThresholdPercent": 98,
        },
        indent=1,
    )


def _dns(of: Layout) -> str:
    return f"""\
cluster.local:53 in-addr.arpa:53 {{
  bind {GATEWAY}
  errors
  health {GATEWAY}:8181
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {of.state}/admin.kubeconfig
    ttl 5
  }}
}}
"""


def _recycler() -> str:
    # empties a released volume, so that a volume that was used once can be claimed again
    container = {
        "name": "empty",
        "image": layout.PAUSE_IMAGE,
        "imagePullPolicy": "Never",
        "args": ["empty", "/volume"],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "recycler", "namespace": "kube-system"},
            "spec": {
                "restartPolicy": "Never",
                "activeDeadlineSeconds": 60,
                "automountServiceAccountToken": False,
                "containers": [container],
                "volumes": [{"name": "volume", "hostPath": {"path": "/replaced-by-the-controller"}}],
            },
        },
        indent=1,
    )
