"""A region by its name: its files, the names of its parts, its API server, and whether it opted in to faults."""

from __future__ import annotations

import fcntl
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from gameday.engine import REGION_LABEL as CONTAINER_LABEL
from gameday.engine import Container, Engine
from gameday.errors import HarnessError, Refused, UsageError
from gameday.paths import state_dir

# The mark that a cluster opted in to faults: a ConfigMap of this name in kube-system, made by `chaos cluster up`.
OPT_IN = "lakehouse-chaos-opt-in"
_API_TIMEOUT_S = 5.0
_CREDENTIALS = ("postgres", "console", "backup", "object_store_key", "object_store_secret")


@dataclass(frozen=True)
class Region:
    """The names that belong to one region."""

    name: str

    @property
    def cluster(self) -> str:
        """Name of the kind cluster, and prefix of its node containers."""
        return f"chaos-{self.name}"

    @property
    def network(self) -> str:
        """Name of the container network that nodes and provider services share."""
        return f"chaos-{self.name}"

    @property
    def folder(self) -> Path:
        """Folder of the region's files; there once something was made for the region."""
        return state_dir() / "regions" / self.name

    def make_folder(self) -> None:
        """Make the region's folder, readable by the user alone, where it is not there."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def kubeconfig(self) -> Path:
        """The region's own kubeconfig; the user's is never written."""
        return self.folder / "kubeconfig"

    @property
    def undo_folder(self) -> Path:
        """Folder of the undo records of faults that may be in effect."""
        return self.folder / "undo"

    @property
    def created(self) -> Path:
        """A file that is there when the cluster was created to its end, addresses pinned and opt-in mark set."""
        return self.folder / "created"

    @property
    def label(self) -> str:
        """Label of every container that the harness makes for the region."""
        return f"{CONTAINER_LABEL}={self.name}"

    def nodes(self, engine: Engine) -> list[Container]:
        """Return the node containers of the cluster, running or not."""
        return engine.containers(f"io.x-k8s.kind.cluster={self.cluster}")

    def services(self, engine: Engine) -> list[Container]:
        """Return the containers of the provider's services."""
        return engine.containers(self.label)

    def credentials(self) -> dict[str, str]:
        """Return the region's random passwords, made once; kept readable by the user alone."""
        path = self.folder / "credentials.json"
        kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        missing = {name: secrets.token_hex(16) for name in _CREDENTIALS if name not in kept}
        if missing:
            kept |= missing
            self.make_folder()
            path.touch(mode=0o600)
            path.write_text(json.dumps(kept))
        return kept


def region_named(name: str) -> Region:
    """Return the region of a name; raises UsageError where it cannot be one."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,14}[a-z0-9])?", name):
        raise UsageError(
            f"region {name!r}: a name has 1 to 16 lower-case letters, digits and dashes, and begins with a letter"
        )
    return Region(name)


@contextmanager
def alone_in(region: Region) -> Iterator[None]:
    """Keep every other run, recovery, up and down out of a region; raises UsageError where one is under way.

    Two runs at once would heal each other's faults, and each would judge what the other did.
    """
    lock = region.folder.with_name(f"{region.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another command works on region {region.name}: wait until it has ended") from error
        yield


def api_client(kubeconfig: Path) -> client.ApiClient:
    """Return a client of the API server that a kubeconfig names; raises UsageError where there is none in it."""
    if not kubeconfig.is_file():
        raise UsageError(f"there is no kubeconfig {kubeconfig}: run `chaos cluster up` first, or name another file")
    try:
        settings = client.Configuration()
        config.load_kube_config(config_file=str(kubeconfig), client_configuration=settings)
        # a proxy of the environment is not for a server on loopback
        settings.proxy = None
        return client.ApiClient(settings)
    except (OSError, config.ConfigException, yaml.YAMLError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"{kubeconfig} is not a kubeconfig: {' '.join(str(error).split())}") from error


def check_opt_in(api: client.ApiClient, region: str) -> str:
    """Make sure that the cluster carries the opt-in mark of this region, and return the mark's uid: no two have one.

    Raises Refused where it does not, UsageError where the API server that the kubeconfig names does not answer.
    """
    try:
        mark = client.CoreV1Api(api).read_namespaced_config_map(OPT_IN, "kube-system", _request_timeout=_API_TIMEOUT_S)
    except ApiException as error:
        if error.status == 404:  # noqa: PLR2004 - HTTP's own number for "not found"
            raise Refused(
                f"the cluster of region {region} carries no opt-in mark (ConfigMap kube-system/{OPT_IN}): "
                "faults are only injected into clusters that `chaos cluster up` made"
            ) from error
        raise HarnessError(
            f"the API server of region {region} refuses to show the opt-in mark: {error.reason}"
        ) from error
    except HTTPError as error:
        raise UsageError(
            f"the API server of region {region} does not answer: "
            "is the cluster up (`chaos cluster status`), and does the kubeconfig name it?"
        ) from error
    found = (mark.data or {}).get("region")
    if found != region:
        raise Refused(f"the cluster opted in to faults as region {found!r}, not {region!r}")
    return str(mark.metadata.uid)


def mark_opt_in(api: client.ApiClient, region: str) -> None:
    """Put the opt-in mark on a cluster that the harness made."""
    body: dict[str, Any] = {"metadata": {"name": OPT_IN}, "data": {"region": region}}
    core = client.CoreV1Api(api)
    try:
        core.create_namespaced_config_map("kube-system", body)
    except ApiException as error:
        if error.status != 409:  # noqa: PLR2004 - HTTP's own number for "it is there already"
            raise
