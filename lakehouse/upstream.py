"""Images by pinned tag from where Presto, Milvus and Spark publish them, and what pods need to run them.

Nodes pull them by themselves when a pod starts. MDS is a service written here, so there is no image of it but ours; the
same holds for Spark's submission service, which therefore stays as it is and has its jobs run in the other image. What
Milvus needs is more, and stands in `lakehouse/milvus_upstream.py`; its etcd and its Kafka are ours with both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PRESTO_IMAGE = "prestodb/presto:0.287"
MILVUS_IMAGE = "milvusdb/milvus:v2.6.25"
SPARK_IMAGE = "apache/spark:4.0.1-scala2.13-java17-python3-ubuntu"

_PRESTO_HOME = "/opt/presto-server"
_PROGRAM = Path(__file__).parent / "presto" / "server.py"
# That image has all of Presto's plug-ins, some forty, and a server loads whatever lies in its folder of plug-ins; the
# declared memory is meant for three. So it looks into a folder that is not there, and is told by name which to load.
PRESTO_PROPERTIES: Mapping[str, str] = {
    "plugin.dir": f"{_PRESTO_HOME}/no-plugin",
    "plugin.bundles": f"{_PRESTO_HOME}/plugin/tpcds,{_PRESTO_HOME}/plugin/tpch,{_PRESTO_HOME}/plugin/postgresql",
}


def presto_files() -> dict[str, str]:
    """Return what the ConfigMaps of servers hold beside their settings: our start program, which that image lacks."""
    return {_PROGRAM.name: _PROGRAM.read_text(encoding="utf-8")}


def presto_pod(spec: dict[str, Any]) -> None:
    """Have the pod of a server run that image: command, probes and drain stay, for our program is where they look."""
    (container,) = spec["containers"]
    program = container["command"][1]
    container["image"] = PRESTO_IMAGE
    container["args"] = ["--home", _PRESTO_HOME]
    container["volumeMounts"].append({"name": "etc", "mountPath": program, "subPath": _PROGRAM.name, "readOnly": True})


def spark_pod(spec: dict[str, Any]) -> None:
    """Have the pod of the submission service pull the image of its jobs first.

    So it is in most nodes before the first job comes; and where it cannot be pulled, deploying fails and says why.
    """
    (container,) = spec["containers"]
    spec["initContainers"] = [
        {
            "name": "image-of-jobs",
            "image": SPARK_IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["true"],
            "securityContext": container["securityContext"],
        }
    ]
