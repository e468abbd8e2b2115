"""Verdicts as JUnit XML, for whatever collects test results.

Only held is a pass. Broken is a failure; inconclusive and harness error are errors, as a skipped test is taken for
nothing to worry about, and a promise that was not answered is not that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from gameday.judge import Verdict

# what XML 1.0 has no way to hold, also not escaped; a server may answer with any of it
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {"broken": "failure", "inconclusive": "error", "harness error": "error"}


def write_junit(verdicts_by_folder: Mapping[Path, Sequence[Verdict]], target: Path) -> None:
    """Write one test suite for each run folder and one test case for each promise of it to `target`.

    A run without a verdict gets an error of its own, or it would read as a pass. Raises OSError where `target` cannot
    be written.
    """
    root = ET.Element("testsuites")
    for folder, verdicts in verdicts_by_folder.items():
        suite = ET.SubElement(root, "testsuite", name=_clean(folder.name))
        for verdict in verdicts:
            _add_case(suite, verdict, folder.name)
        if not verdicts:
            case = ET.SubElement(suite, "testcase", classname=_clean(folder.name), name="any promise")
            ET.SubElement(case, "error", type="inconclusive", message="no promise was judged in this run")
        _count(suite)
    _count(root)
    ET.indent(root)
    ET.ElementTree(root).write(target, encoding="utf-8", xml_declaration=True)


def _add_case(suite: ET.Element, verdict: Verdict, run: str) -> None:
    name = f"{verdict.promise} ({verdict.variant})" if verdict.variant else verdict.promise
    case = ET.SubElement(suite, "testcase", classname=_clean(run), name=_clean(name))
    bound = f"bound: {verdict.bound}" if verdict.bound else ""
    measured = _clean("\n".join(line for line in (verdict.figure or "no figure", bound, verdict.reason) if line))
    if element := _ELEMENTS.get(verdict.verdict):
        told = ET.SubElement(case, element, type=verdict.verdict, message=_clean(verdict.reason or verdict.verdict))
        told.text = measured
    else:
        ET.SubElement(case, "system-out").text = measured


def _count(element: ET.Element) -> None:
    for attribute, path in (("tests", ".//testcase"), ("failures", ".//failure"), ("errors", ".//error")):
        element.set(attribute, str(len(element.findall(path))))
    element.set("skipped", "0")


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
