"""The image of what watches the lakehouse: Prometheus and Alertmanager of Debian, and kube-state-metrics."""

from __future__ import annotations

from pathlib import Path

from gameday.shell import run
from nodeimage.archive import Image, layer_of
from nodeimage.cache import artefact, key_of
from nodeimage.programs import state_metrics_key
from nodeimage.rootfs import MONITORING_PACKAGES, POD_PACKAGES, RELEASE, root_file_system

_REPOSITORY = "localhost/lakehouse"
PROGRAMS = "usr/bin"
# Without its templates Alertmanager does not start, whether any is used or not.
_TEMPLATES = "usr/share/prometheus/alertmanager"
_IN_PODS = (f"{PROGRAMS}/prometheus", f"{PROGRAMS}/prometheus-alertmanager", _TEMPLATES)
# for tests of the rules
_CHECKER = f"{PROGRAMS}/promtool"
_STATE_METRICS = "kube-state-metrics"


def monitoring_reference() -> str:
    """Return the reference of the image; its tag is a key of all that is in it, so a change has another name."""
    return f"{_REPOSITORY}/monitoring:{key_of(_packages_key(), state_metrics_key(), *POD_PACKAGES)}"


def _packages_key() -> str:
    return key_of(RELEASE, *MONITORING_PACKAGES, *_IN_PODS, _CHECKER)


def monitoring_packages() -> Path:
    """Return a folder with what is used of Debian's packages, in `usr` as they have it, made where it is not there.

    They bring fonts and web pages as well, and a root file system of their own would be unpacked on each node; the
    programs need a libc alone, which that of all pods has.
    """

    def build(folder: Path) -> None:
        root = root_file_system("monitoring", MONITORING_PACKAGES)
        wanted = [f"./{path}" for path in (*_IN_PODS, _CHECKER)]
        run(["tar", "--extract", "--file", str(root), "--directory", str(folder), *wanted])

    return artefact("monitoring-packages", _packages_key(), build)


def monitoring_image(pod_root: Path, packages: Path, state_metrics: Path, scratch: Path) -> Image:
    """Describe the image over the root file system that all pods share; the layer is written into `scratch`."""
    contents = {f"/{path}": packages / path for path in _IN_PODS}
    contents[f"/usr/local/bin/{_STATE_METRICS}"] = state_metrics / _STATE_METRICS
    layer = layer_of(scratch / "monitoring.layer", contents)
    return Image(monitoring_reference(), (pod_root, layer))
