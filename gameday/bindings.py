"""Which zone a pod's volumes bind it to: it can start nowhere else, so it waits for that zone."""

from __future__ import annotations

from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from gameday.topology import ZONE_LABEL

_HOSTNAME = "kubernetes.io/hostname"
_TIMEOUT_S = 10


class Bindings:
    """Looks up claims and their volumes; what was found is remembered, as a claim never takes another volume."""

    def __init__(self, core: client.CoreV1Api) -> None:
        self._core = core
        self._found: dict[tuple[str, str], str] = {}

    def zone_of(self, pod: Any, zones: dict[str, str | None]) -> str | None:  # noqa: ANN401 - the client has no types
        """Return the only zone in which the volumes of a pod can be mounted, None where they leave a choice.

        `zones` maps a node's name to its zone. A volume that cannot be looked up counts as one that leaves a choice:
        its pod is then expected to be rescheduled, which is the stricter way to judge.
        """
        for volume in pod.spec.volumes or []:
            claim = volume.persistent_volume_claim
            if claim and (zone := self._zone(pod.metadata.namespace, claim.claim_name, zones)):
                return zone
        return None

    def _zone(self, namespace: str, claim: str, zones: dict[str, str | None]) -> str | None:
        key = (namespace, claim)
        if key not in self._found:
            try:
                found = self._core.read_namespaced_persistent_volume_claim(
                    claim, namespace, _request_timeout=_TIMEOUT_S
                )
                if not found.spec.volume_name:
                    return None
                volume = self._core.read_persistent_volume(found.spec.volume_name, _request_timeout=_TIMEOUT_S)
            except (ApiException, HTTPError):
                return None
            if zone := _only_zone(volume, zones):
                self._found[key] = zone
        return self._found.get(key)


def _only_zone(volume: Any, zones: dict[str, str | None]) -> str | None:  # noqa: ANN401 - the client has no types
    affinity = volume.spec.node_affinity
    terms = affinity.required.node_selector_terms if affinity and affinity.required else []
    wanted = [item for term in terms for item in term.match_expressions or [] if item.operator == "In"]
    found = {
        zones.get(value) if item.key == _HOSTNAME else value
        for item in wanted
        if item.key in (_HOSTNAME, ZONE_LABEL)
        for value in item.values
    }
    return found.pop() if len(found) == 1 else None
