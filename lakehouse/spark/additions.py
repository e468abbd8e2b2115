"""What pods need to run jobs in Spark's own image: our jars and programs, copied from our image before Spark starts.

That image has Spark, Java and Python, but neither S3A nor Iceberg, and nothing of ours; a pod has no network by which
to fetch them.
"""

from __future__ import annotations

from typing import Any

# Where the jars lie in our image that Spark's own does not have; lakehouse/spark_image.py puts them there.
JARS = "/opt/spark/added"
PROGRAMS = "/usr/local/lib/python3.11/dist-packages"
_FOLDER = "/opt/added"


def programs(*, own_image: bool) -> str:
    """Return the folder of a driver that holds our Python package, in our own image or beside another one."""
    return PROGRAMS if own_image else _FOLDER


def add(spec: dict[str, Any], image: str) -> None:
    """Change the spec of a pod so that jars and programs of our `image` are in it, and found by Spark and Python."""
    (container,) = spec["containers"]
    mount = {"name": "added", "mountPath": _FOLDER}
    spec["volumes"].append({"name": "added", "emptyDir": {}})
    spec["initContainers"] = [
        {
            "name": "added",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["cp", "-r", JARS, f"{PROGRAMS}/lakehouse", _FOLDER],
            "securityContext": container["securityContext"],
            "volumeMounts": [mount],
        }
    ]
    container["volumeMounts"].append({**mount, "readOnly": True})
    # Spark puts it last on the class path of drivers and executors alike: of two versions its own one counts
    container["env"].append({"name": "SPARK_DIST_CLASSPATH", "value": f"{_FOLDER}/{JARS.rpartition('/')[2]}/*"})
    container["env"].append({"name": "PYTHONPATH", "value": _FOLDER})
