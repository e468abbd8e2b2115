"""Routes between the pod networks of the nodes, as a cloud's route table has them; runs on every node.

Sets a route to each other node's PodCIDR by that node's address, removes those of nodes that are gone, and masquerades
what leaves the pod network. Only Python's own library, since it runs in the smallest image there is.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
OWN_NODE = os.environ["NODE_NAME"]
POD_SUBNET = os.environ["POD_SUBNET"]
# marks the routes of this program, so that it removes no others
PROTOCOL = "201"


def open_api(path: str) -> HTTPResponse:
    """Open a path of the API as this pod's service account; the token is read anew, as it is rotated."""
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"}
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    request = urllib.request.Request(API + path, headers=headers)
    answer: HTTPResponse = urllib.request.urlopen(request, context=context, timeout=30)
    return answer


def call(*command: str) -> bool:
    """Run a program and tell whether it succeeded."""
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def masquerade() -> None:
    """Make packets from pods to anything outside the pod network carry the node's address."""
    rule = ["POSTROUTING", "-s", POD_SUBNET, "!", "-d", POD_SUBNET, "-j", "MASQUERADE"]
    if not call("iptables", "-w", "-t", "nat", "-C", *rule):
        subprocess.run(["iptables", "-w", "-t", "nat", "-A", *rule], check=True)


def wanted_routes(nodes: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return {pod network: node address} of all other nodes."""
    routes = {}
    for node in nodes:
        addresses = [item["address"] for item in node["status"].get("addresses", []) if item["type"] == "InternalIP"]
        network = node["spec"].get("podCIDR")
        if node["metadata"]["name"] != OWN_NODE and network and addresses:
            routes[network] = addresses[0]
    return routes


def apply(routes: dict[str, str]) -> None:
    """Bring the node's routing table to `routes`."""
    shown = subprocess.run(
        ["ip", "-json", "route", "show", "proto", PROTOCOL], check=True, capture_output=True, text=True
    ).stdout
    for old in json.loads(shown or "[]"):
        if routes.get(old["dst"]) != old.get("gateway"):
            call("ip", "route", "del", old["dst"], "proto", PROTOCOL)
    for network, address in routes.items():
        call("ip", "route", "replace", network, "via", address, "proto", PROTOCOL)


def follow() -> None:
    """Apply the routes of the nodes there are, then again at every change, until the watch ends."""
    with open_api("/api/v1/nodes") as answer:
        listing = json.load(answer)
    nodes = {node["metadata"]["name"]: node for node in listing["items"]}
    apply(wanted_routes(nodes.values()))
    version = listing["metadata"]["resourceVersion"]
    with open_api(f"/api/v1/nodes?watch=true&resourceVersion={version}&timeoutSeconds=25") as stream:
        for line in stream:
            event = json.loads(line)
            if event["type"] == "DELETED":
                nodes.pop(event["object"]["metadata"]["name"], None)
            elif event["type"] in ("ADDED", "MODIFIED"):
                nodes[event["object"]["metadata"]["name"]] = event["object"]
            else:
                return
            apply(wanted_routes(nodes.values()))


while True:
    try:
        masquerade()
        follow()
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"routes: {error}\n")
        time.sleep(1)
