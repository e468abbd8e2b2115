"""Image archives: shared layers once, the same bytes for the same inputs."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from nodeimage.archive import Image, layer_of, write_archive
from nodeimage.cache import artefact, key_of


def _layer(folder: Path, name: str, content: str) -> Path:
    source = folder / f"{name}.txt"
    source.write_text(content)
    return layer_of(folder / f"{name}.layer", {f"/etc/{name}": source})


def test_two_images_share_a_layer_and_name_their_own(tmp_path: Path) -> None:
    """A layer that two images have in common is in the archive once, and both name it by its digest."""
    base, own = _layer(tmp_path, "base", "base"), _layer(tmp_path, "own", "own")
    images = [Image("localhost/a:1", (base,)), Image("localhost/b:1", (base, own), ("/bin/b",))]
    with tarfile.open(write_archive(tmp_path / "images.tar", images)) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type] # it is there, as written above
        config = json.load(tar.extractfile(manifest[1]["Config"]))  # type: ignore[arg-type] # the same
        layers = [name for name in tar.getnames() if name.endswith(".tar")]
    assert len(layers) == 2
    assert manifest[0]["Layers"] == manifest[1]["Layers"][:1]
    assert manifest[1]["RepoTags"] == ["localhost/b:1"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{name.removesuffix('.tar')}" for name in manifest[1]["Layers"]]
    assert config["config"]["Entrypoint"] == ["/bin/b"]


def test_the_same_files_give_the_same_layer_whenever_it_is_made(tmp_path: Path) -> None:
    """Times and owners of files do not get into a layer, or every build would be another image."""
    first = _layer(tmp_path, "base", "same").read_bytes()
    (tmp_path / "base.txt").touch()
    assert layer_of(tmp_path / "again", {"/etc/base": tmp_path / "base.txt"}).read_bytes() == first


def test_an_interrupted_build_leaves_nothing_that_counts_as_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that raised is made again, and one that returned is not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "file").write_text("whole")
        if len(calls) == 1:
            raise KeyboardInterrupt

    for _ in range(3):
        try:
            made = artefact("thing", "key", build)
        except KeyboardInterrupt:
            continue
    assert len(calls) == 2
    assert (made / "file").read_text() == "whole"


def test_a_key_changes_with_the_bytes_and_the_names_of_its_inputs(tmp_path: Path) -> None:
    """Anything that gets into a build gets into its key."""
    (tmp_path / "a").write_text("1")
    before = key_of(tmp_path, "flags")
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = key_of(tmp_path, "flags")
    (tmp_path / "b").write_text("2")
    assert len({before, renamed, key_of(tmp_path, "flags"), key_of(tmp_path, "other")}) == 4
