"""Root file systems from Debian's packages, by mmdebstrap, with the mirror that the machine's own apt uses."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gameday.errors import HarnessError
from gameday.paths import cache_dir
from gameday.shell import run
from nodeimage.cache import artefact, key_of
from nodeimage.steps import log_file, step

# systemd of this release copes with cgroup v1; later ones may not.
RELEASE = "bookworm"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LEAVE_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")

# Of a Kubernetes node: systemd, and what kubelet, kube-proxy and containerd call.
NODE_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "iptables",
    "nftables",
    "iproute2",
    "conntrack",
    "ethtool",
    "socat",
    "kmod",
    "mount",
    "procps",
    "ca-certificates",
    "jq",
    "runc",
    "containernetworking-plugins",
)
# Of the pods written here: a Python, and what kube-proxy and the route daemon call.
POD_PACKAGES = ("python3", "iptables", "iproute2", "conntrack", "kmod", "ca-certificates")
# Of the provider's services outside the zones.
PROVIDER_PACKAGES = ("postgresql-15", "pgbackrest", "haproxy", "nftables", "openssl", "rclone", "ca-certificates")
# Of what watches the lakehouse.
MONITORING_PACKAGES = ("prometheus", "prometheus-alertmanager")


def _mirrors() -> list[str]:
    """Return apt source lines of the release and its security updates, as the machine's own apt knows them."""
    listing = run(
        ["apt-get", "indextargets", "--format", "$(CREATED_BY) $(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)"]
    )
    lines = set()
    for line in listing.stdout.splitlines():
        created_by, origin, release, component, *uri = line.split()
        if (created_by, origin, component) == ("Packages", "Debian", "main") and release.startswith(RELEASE):
            lines.add(f"deb [signed-by={_KEYRING}] {uri[0]} {release} main")
    if not lines:
        raise HarnessError(
            f"apt knows no package lists of Debian {RELEASE}: run `apt-get update` as root, then try again"
        )
    return sorted(lines)


def root_file_system(name: str, packages: Sequence[str]) -> Path:
    """Return a tar file of a root file system with these packages, made where it is not there yet (about 30 s).

    Raises HarnessError where the machine is not a Debian with mmdebstrap, or the user is not root.
    """
    if not shutil.which("mmdebstrap") or os.geteuid() != 0:
        raise HarnessError(
            "building images from packages needs root and mmdebstrap on Debian or Ubuntu: run `make setup`"
        )

    def build(folder: Path) -> None:
        log = log_file(f"rootfs-{name}")
        log.unlink(missing_ok=True)
        options = ["--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
        options += ['--aptopt=Acquire::Languages "none"']
        options += [f"--dpkgopt=path-exclude={path}" for path in _LEAVE_OUT]
        with step(f"root file system of {name} from packages"):
            run(["mmdebstrap", *options, RELEASE, str(folder / "rootfs.tar"), *_mirrors()], deadline_s=900, log=log)

    return artefact(f"rootfs-{name}", key_of(RELEASE, *packages, *_LEAVE_OUT), build) / "rootfs.tar"


def compile_python(root: Path, packages: Path, site: str, log: Path) -> None:
    """Compile a folder of Python packages to byte code with the Python of a root file system, as if it lay at `site`.

    A pod's file system is read-only, so that a program there would compile all it imports at each start. The byte code
    is taken without a look at the sources. Raises HarnessError where the Python cannot be run.
    """
    with tempfile.TemporaryDirectory(dir=cache_dir()) as name:
        run(["tar", "--extract", "--file", str(root), "--directory", name, "--exclude=./dev/*"], log=log)
        place = Path(name) / site.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        # there and back within one file system; what is left of an interrupted build is made anew
        packages.rename(place)
        mode = ["--invalidation-mode", "unchecked-hash"]
        command = ["chroot", name, "python3", "-m", "compileall", "-q", *mode, site]
        # some packages bring files that no Python of this version can read, and that nothing imports
        done = run(command, deadline_s=300, log=log, check=False)
        place.rename(packages)
    if not any(packages.rglob("*.pyc")):
        raise HarnessError(f"packages cannot be compiled: chroot exited with {done.returncode} (whole output in {log})")
