"""The Go programs of a node, and kind itself, compiled from their modules by one invocation of `go build`.

All of them stand in one module (`programs/go.mod`), so that what they share (gRPC, OpenTelemetry, Kubernetes' own
client) is compiled once: fourteen programs in about 11 minutes of two cores, where a module each took over 20.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gameday.errors import HarnessError
from gameday.shell import run
from nodeimage.cache import artefact, key_of
from nodeimage.steps import log_file, step

MODULE = Path(__file__).parent / "programs"
# kube-state-metrics is written against an older Kubernetes, which a module with the node's programs could not have; and
# a change of it leaves their key as it is.
_MONITORING_MODULE = Path(__file__).parent / "monitoring"
# Velero is written against an older one still, and replaces modules.
_VELERO_MODULE = Path(__file__).parent / "velero"
# Only pods that take backups need etcd's tools, so that these leave the node's key as it is as well. Their versions and
# that of the node's etcd are the same: a snapshot is read by what wrote it.
_ETCD_TOOLS_MODULE = Path(__file__).parent / "etcdtools"

KUBERNETES_VERSION = "v1.36.3"
KUBERNETES_PROGRAMS = (
    "kubeadm",
    "kubectl",
    "kubelet",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
)
# The package of each further program, and its name where `go build` would give it another.
OTHER_PROGRAMS = {
    "./coredns": "coredns",
    "./pause": "pause",
    "go.etcd.io/etcd/server/v3": "etcd",
    "github.com/containerd/containerd/v2/cmd/containerd": "containerd",
    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2": "containerd-shim-runc-v2",
    "github.com/containerd/containerd/v2/cmd/ctr": "ctr",
    "github.com/versity/versitygw/cmd/versitygw": "versitygw",
}
_NODE = (*(f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_PROGRAMS), *OTHER_PROGRAMS)
KIND = "sigs.k8s.io/kind"
_STATE_METRICS = "k8s.io/kube-state-metrics/v2"
_VELERO = (
    *(f"github.com/vmware-tanzu/velero/cmd/{name}" for name in ("velero", "velero-helper", "velero-restore-helper")),
    "github.com/vmware-tanzu/velero-plugin-for-aws/velero-plugin-for-aws",
)
# The package of each, and its name.
_ETCD_TOOLS = {"go.etcd.io/etcd/etcdctl/v3": "etcdctl", "go.etcd.io/etcd/etcdutl/v3": "etcdutl"}

# File systems that no node uses; without them containerd needs no C library.
_TAGS = "no_btrfs,no_zfs,no_devmapper"
_STRIPPED = "-s -w"


def _link_flags() -> str:
    _, minor, _ = KUBERNETES_VERSION.split(".")
    stamps = {"gitVersion": KUBERNETES_VERSION, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(
        [_STRIPPED, *(f"-X {package}.{key}={value}" for package in packages for key, value in stamps.items())]
    )


def _build(target: Path, packages: list[str], name: str, *, module: Path = MODULE, link_flags: str = "") -> None:
    if not shutil.which("go"):
        raise HarnessError("the Go toolchain is not installed: install Go 1.26 or newer")
    command = ["go", "build", "-C", str(module), "-trimpath", "-tags", _TAGS, "-ldflags", link_flags or _link_flags()]
    log = log_file(name)
    log.unlink(missing_ok=True)
    built = [*command, "-o", f"{target}/", *packages]
    run(built, environment={"CGO_ENABLED": "0"}, deadline_s=3600, log=log)


def _key(*packages: str) -> str:
    sources = (MODULE / "go.mod", MODULE / "go.sum", MODULE / "coredns", MODULE / "pause")
    return key_of(*sources, _TAGS, _link_flags(), *packages)


def kind_program() -> Path:
    """Return the path of kind, compiled from its module where it is not there yet (about 15 s)."""

    def build(folder: Path) -> None:
        with step("compile kind"):
            _build(folder, [KIND], "compile-kind")

    return artefact("kind", _key(KIND), build) / "kind"


def node_programs_key() -> str:
    """Return the key of what `node_programs` are made of."""
    return _key(*_NODE)


def node_programs() -> Path:
    """Return the folder of all programs of a node, compiled where they are not there yet (about 13 min)."""

    def build(folder: Path) -> None:
        count = len(_NODE)
        with step(f"compile {count} programs", lambda: f"({len(list(folder.iterdir()))} of {count} are linked)"):
            _build(folder, list(_NODE), "compile-programs")
            (folder / "server").rename(folder / OTHER_PROGRAMS["go.etcd.io/etcd/server/v3"])

    return artefact("programs", node_programs_key(), build)


def state_metrics_key() -> str:
    """Return the key of what `state_metrics_program` is made of."""
    return key_of(_MONITORING_MODULE, _STATE_METRICS, _STRIPPED)


def state_metrics_program() -> Path:
    """Return the folder of kube-state-metrics, compiled where it is not there yet."""

    def build(folder: Path) -> None:
        with step("compile kube-state-metrics"):
            _build(folder, [_STATE_METRICS], "compile-monitoring", module=_MONITORING_MODULE, link_flags=_STRIPPED)

    return artefact("state-metrics", state_metrics_key(), build)


def velero_key() -> str:
    """Return the key of what `velero_programs` are made of."""
    return key_of(_VELERO_MODULE, *_VELERO, _STRIPPED)


def velero_programs() -> Path:
    """Return the folder of Velero, its helpers and its plug-in for S3, compiled where they are not yet (8 min)."""

    def build(folder: Path) -> None:
        with step("compile Velero"):
            _build(folder, list(_VELERO), "compile-velero", module=_VELERO_MODULE, link_flags=_STRIPPED)

    return artefact("velero", velero_key(), build)


def etcd_tools_key() -> str:
    """Return the key of what `etcd_tools` are made of."""
    return key_of(_ETCD_TOOLS_MODULE, *_ETCD_TOOLS, _STRIPPED)


def etcd_tools() -> Path:
    """Return the folder of etcdctl and etcdutl, compiled where they are not there yet."""

    def build(folder: Path) -> None:
        with step("compile etcdctl and etcdutl"):
            _build(folder, list(_ETCD_TOOLS), "compile-etcd-tools", module=_ETCD_TOOLS_MODULE, link_flags=_STRIPPED)

    return artefact("etcd-tools", etcd_tools_key(), build)
