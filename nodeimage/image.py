"""The node images of kind, put together from packages: root file system, programs, and images to start with.

Two images: the control plane's carries the control plane's own images, a worker's those of the lakehouse. What kind
asks of an image: `/kind/version`, `/kind/manifests`, an entrypoint that becomes systemd, and the images that kubeadm
names already in containerd's store, since loading them at each node's start costs minutes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from gameday.engine import Engine
from nodeimage.archive import Image, layer_of, write_archive
from nodeimage.cache import key_of, locked
from nodeimage.programs import KUBERNETES_VERSION, node_programs
from nodeimage.rootfs import NODE_PACKAGES, POD_PACKAGES, root_file_system
from nodeimage.steps import step, together

FILES = Path(__file__).parent / "files"
REPOSITORY = "localhost/lakehouse-chaos"

# The names under which kubeadm of this version asks for its images.
_CONTROL_PLANE_IMAGES = {
    f"registry.k8s.io/kube-apiserver:{KUBERNETES_VERSION}": "kube-apiserver",
    f"registry.k8s.io/kube-controller-manager:{KUBERNETES_VERSION}": "kube-controller-manager",
    f"registry.k8s.io/kube-scheduler:{KUBERNETES_VERSION}": "kube-scheduler",
    "registry.k8s.io/etcd:3.6.8-0": "etcd",
}
_EVERYWHERE = {"registry.k8s.io/coredns/coredns:v1.14.2": "coredns", "registry.k8s.io/pause:3.10.2": "pause"}
_KUBE_PROXY = f"registry.k8s.io/kube-proxy:{KUBERNETES_VERSION}"
_ON_A_NODE = ("kubeadm", "kubectl", "kubelet", "containerd", "containerd-shim-runc-v2", "ctr")

# Runs in a container of the bare root file system: files and programs to their places, units switched on and off.
_FURNISH = r"""
set -eu
for program in @PROGRAMS@; do install -m 0755 /in/programs/$program /usr/local/bin/$program; done
install -m 0755 /in/files/entrypoint /usr/local/bin/entrypoint
install -D -m 0644 /in/files/containerd.toml /etc/containerd/config.toml
install -D -m 0644 /in/files/cni.template /etc/containerd/cni.template
install -m 0644 /in/files/containerd.service /in/files/kubelet.service /etc/systemd/system/
install -D -m 0644 /in/files/routes.py /kind/routes.py
install -D -m 0644 /in/files/default-storage.yaml /kind/manifests/default-storage.yaml
sed 's/[@]VERSION[@]/@VERSION@/' /in/files/default-cni.yaml > /kind/manifests/default-cni.yaml
echo @VERSION@ > /kind/version
rm -f /etc/machine-id /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/*
rm -f /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/basic.target.wants/*
touch /etc/machine-id
ln -sf /dev/null /etc/systemd/system/systemd-binfmt.service
mkdir -p /etc/systemd/journald.conf.d /etc/systemd/system/multi-user.target.wants
printf '[Journal]\nReadKMsg=no\nStorage=volatile\n' > /etc/systemd/journald.conf.d/node.conf
for unit in containerd kubelet; do
  ln -s /etc/systemd/system/$unit.service /etc/systemd/system/multi-user.target.wants/$unit.service
done
"""
# Runs in a container of the furnished node, with containerd's store on a file system of its own, as no overlay can be
# written on an overlay. What is unpacked is kept in the node's own file system, where pods find it by links: nodes of
# one image share these files, also in memory, and none has to unpack or copy them. What containerd writes is its own.
_PRELOAD = r"""
set -eu
containerd > /tmp/containerd.log 2>&1 &
pid=$!
for attempt in $(seq 100); do ctr version > /dev/null 2>&1 && break; sleep 0.2; done
ctr --namespace k8s.io images import --local --discard-unpacked-layers --all-platforms /in/images.tar
ctr --namespace k8s.io content prune references
kill $pid
wait $pid || true
rm -rf /run/containerd /tmp/containerd.log
snapshots=io.containerd.snapshotter.v1.overlayfs/snapshots
cp -a /var/lib/containerd /kind/containerd
mv /kind/containerd/$snapshots /kind/snapshots
for snapshot in /kind/snapshots/*; do
  own=/kind/containerd/$snapshots/${snapshot##*/}
  mkdir -p -m 0700 $own $own/work
  ln -s $snapshot/fs $own/fs
done
"""


def pod_root_file_system() -> Path:
    """Return the root file system that the images of pods start from."""
    return root_file_system("pod", POD_PACKAGES)


def node_root_file_system() -> Path:
    """Return the root file system of a node."""
    return root_file_system("node", NODE_PACKAGES)


def node_images(engine: Engine, extra_key: str, extra: Callable[[], Sequence[Image]]) -> tuple[str, str]:
    """Return the references of the control plane's and the workers' node image, built where they are not there yet.

    `extra` makes images that workers carry from the start, and is asked where they are needed; `extra_key` is a key of
    their inputs. Raises HarnessError with the end of what the failing step said.
    """
    programs, node_root, pod_root = together(node_programs, node_root_file_system, pod_root_file_system)
    key = key_of(str(programs), str(node_root), str(pod_root), FILES, _FURNISH, _PRELOAD)
    common = f"{REPOSITORY}/node-base:{key}"
    control_plane = f"{REPOSITORY}/control-plane:{key}"
    worker = f"{REPOSITORY}/worker:{key_of(key, extra_key)}"
    with locked("node-images"):
        if not engine.has_image(common):
            with step("furnish the node image"):
                _furnish(engine, common, programs, node_root)
        for reference, own, more in ((control_plane, _CONTROL_PLANE_IMAGES, tuple), (worker, {}, extra)):
            if not engine.has_image(reference):
                with step(f"preload {reference.split('/')[-1].split(':')[0]}"), tempfile.TemporaryDirectory() as folder:
                    archive = _archive(Path(folder), programs, pod_root, {**own, **_EVERYWHERE}, list(more()))
                    store = Path(folder) / "store"
                    store.mkdir()
                    mounts = {archive: "/in/images.tar:ro", store: "/var/lib/containerd"}
                    _commit(engine, common, reference, _PRELOAD, mounts)
    engine.remove_other_images(common, control_plane, worker)
    return control_plane, worker


def _archive(folder: Path, programs: Path, pod_root: Path, named: dict[str, str], more: list[Image]) -> Path:
    images = list(more)
    for reference, program in named.items():
        layer = layer_of(folder / f"{program}.layer", {f"/usr/local/bin/{program}": programs / program})
        # kubeadm's manifests name the program; CoreDNS and pause are run by their entrypoint
        entrypoint = (f"/usr/local/bin/{program}",) if program in ("coredns", "pause") else ()
        images.append(Image(reference, (layer,), entrypoint))
    layer = layer_of(folder / "kube-proxy.layer", {"/usr/local/bin/kube-proxy": programs / "kube-proxy"})
    images.append(Image(_KUBE_PROXY, (pod_root, layer)))
    return write_archive(folder / "images.tar", images)


def _furnish(engine: Engine, reference: str, programs: Path, node_root: Path) -> None:
    bare = f"{reference}-bare"
    engine.call("import", str(node_root), bare, deadline_s=300)
    script = _FURNISH.replace("@PROGRAMS@", " ".join(_ON_A_NODE)).replace("@VERSION@", KUBERNETES_VERSION)
    try:
        _commit(engine, bare, reference, script, {programs: "/in/programs:ro", FILES: "/in/files:ro"})
    finally:
        engine.call("rmi", bare, check=False)


def _commit(engine: Engine, base: str, reference: str, script: str, mounts: dict[Path, str]) -> None:
    """Run a script in a container of `base`, with folders mounted, and keep what it left as an image."""
    name = f"lakehouse-chaos-build-{key_of(reference)}"
    volumes = [part for source, target in mounts.items() for part in ("--volume", f"{source}:{target}")]
    engine.remove(name)
    try:
        engine.call(
            "run", "--name", name, "--privileged", "--network", "none", *volumes, "--entrypoint", "/bin/bash", base,
            "-c", script, deadline_s=600,
        )  # fmt: skip
        # a commit keeps the entrypoint it was run with, so it is set again
        changes = ['ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]', "STOPSIGNAL SIGRTMIN+3", "CMD []"]
        options = [part for change in changes for part in ("--change", change)]
        engine.call("commit", *options, name, reference, deadline_s=600)
    finally:
        engine.remove(name)
