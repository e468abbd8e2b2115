"""The image of what watches the lakehouse: Prometheus and Alertmanager of Debian, and kube-state-metrics."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from gameday.errors import HarnessError
from nodeimage.archive import Image, layer_of
from nodeimage.cache import artefact, key_of
from nodeimage.programs import state_metrics_key
from nodeimage.rootfs import MONITORING_PACKAGES, POD_PACKAGES, RELEASE, root_file_system

_REPOSITORY = "localhost/lakehouse"
_PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager")
# What pods run of these; promtool is for tests of the rules.
_IN_PODS = ("prometheus", "prometheus-alertmanager")
STATE_METRICS = "kube-state-metrics"


def monitoring_reference() -> str:
    """Return the reference of the image; its tag is a key of all that is in it, so a change has another name."""
    return f"{_REPOSITORY}/monitoring:{key_of(_programs_key(), state_metrics_key(), *POD_PACKAGES)}"


def _programs_key() -> str:
    return key_of(RELEASE, *MONITORING_PACKAGES, *_PROGRAMS)


def monitoring_programs() -> Path:
    """Return a folder with Debian's `prometheus`, `promtool` and `prometheus-alertmanager`, made where it is not there.

    Their packages bring fonts and web pages that no pod needs; the programs need a libc alone, which pods have.
    """

    def build(folder: Path) -> None:
        with tarfile.open(root_file_system("monitoring", MONITORING_PACKAGES)) as root:
            for name in _PROGRAMS:
                found = root.extractfile(f"./usr/bin/{name}")
                if found is None:
                    raise HarnessError(f"the packages {', '.join(MONITORING_PACKAGES)} have no program {name}")
                target = folder / name
                with target.open("wb") as handle:
                    shutil.copyfileobj(found, handle)
                target.chmod(0o755)

    return artefact("monitoring-programs", _programs_key(), build)


def monitoring_image(pod_root: Path, programs: Path, state_metrics: Path, scratch: Path) -> Image:
    """Describe the image over the root file system that all pods share; the layer is written into `scratch`."""
    contents = {f"/usr/bin/{name}": programs / name for name in _IN_PODS}
    contents[f"/usr/local/bin/{STATE_METRICS}"] = state_metrics / STATE_METRICS
    layer = layer_of(scratch / "monitoring.layer", contents)
    return Image(monitoring_reference(), (pod_root, layer))
