"""Findings for machines: each format is what its readers take."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from vmrun.cli.check import check_one
from vmrun.errors import Diagnostic, Label, Span
from vmrun.schema.known import EXAMPLE_KNOWN
from vmrun.ui.diagnostics import Texts
from vmrun.ui.reports import FORMATS, Checked

GOLDEN = Path(__file__).parents[1] / "golden" / "check"
ODD = Diagnostic(
    "E014",
    '50% of `a,b:c`\r\nand\x1b]]> <more> & "so"',
    ("a", "b"),
    Span("dir with space/ü,:%.toml", 3, 5, 3, 9),
    "a label",
    "some help",
    (Label("over there", Span("other.toml", 1, 1, 1, 2)), Label("nowhere", None, ("x",))),
)
SARIF_SHAPE = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "required": ["id"],
                                            "properties": {"shortDescription": {"required": ["text"]}},
                                        },
                                    }
                                },
                            }
                        },
                        "required": ["driver"],
                    },
                    "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
                },
            },
        },
    },
    "$defs": {
        "message": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}},
        "location": {
            "type": "object",
            "required": ["physicalLocation"],
            "properties": {
                "message": {"$ref": "#/$defs/message"},
                "physicalLocation": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["artifactLocation"],
                    "properties": {
                        "artifactLocation": {
                            "required": ["uri"],
                            "properties": {"uri": {"type": "string", "pattern": "^[A-Za-z0-9._~:/%@!$&'()*+,;=-]+$"}},
                        },
                        "region": {
                            "additionalProperties": False,
                            "properties": {
                                name: {"type": "integer", "minimum": 1}
                                for name in ("startLine", "startColumn", "endLine", "endColumn")
                            },
                        },
                    },
                },
            },
        },
        "result": {
            "type": "object",
            "additionalProperties": False,
            "required": ["ruleId", "ruleIndex", "level", "message"],
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": 0},
                "level": {"enum": ["none", "note", "warning", "error"]},
                "message": {"$ref": "#/$defs/message"},
                "locations": {"type": "array", "items": {"$ref": "#/$defs/location"}},
                "relatedLocations": {"type": "array", "items": {"$ref": "#/$defs/location"}},
            },
        },
    },
}


@pytest.fixture(scope="module")
def checked() -> list[Checked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(GOLDEN)
        names = sorted(path.name for path in GOLDEN.glob("*.toml"))
        found = [Checked(name, check_one(name, EXAMPLE_KNOWN, [], None, ())) for name in names]
    return [*found, Checked("odd & <name>.toml", (ODD,)), Checked("clean.toml", ())]


def text(style: str, checked: list[Checked]) -> str:
    return FORMATS[style](checked, Texts())


def count(checked: list[Checked]) -> int:
    return sum(len(c.findings) for c in checked)


def test_json_has_one_stable_shape(checked: list[Checked]) -> None:
    found = json.loads(text("json", checked))
    assert len(found) == count(checked)
    place = {"file", "line", "column", "end_line", "end_column"}
    for item in found:
        assert set(item) == {"manifest", "code", "severity", "message", "key", "span", "label", "help", "labels"}
        assert item["span"] is None or set(item["span"]) == place
        assert all(set(label) == {"text", "span"} for label in item["labels"])
    odd = found[-1]
    assert odd["message"] == ODD.message
    assert odd["key"] == ["a", "b"]
    assert odd["span"]["column"] == 5
    assert text("json", []) == "[]\n"


def test_concise_is_a_line_each(checked: list[Checked]) -> None:
    lines = text("concise", checked).splitlines()
    assert len(lines) == count(checked)
    assert all(re.match(r".+:\d+:\d+: (error|warning)\[E\d{3}\]: ", line) for line in lines)
    assert (
        "unknown-key.toml:13:1: error[E014]: unknown key `pth` in [disk.root] "
        "(did you mean `path`?; keys are path, url, sha256, format, mode, serial, size)" in lines
    )


def test_github_escapes_what_would_end_a_property(checked: list[Checked]) -> None:
    lines = text("github", checked).splitlines()
    assert len(lines) == count(checked)
    assert lines[-1] == (
        "::error file=dir with space/ü%2C%3A%25.toml,line=3,col=5,endLine=3,endColumn=9,title=vmrun E014"
        '::50%25 of `a,b:c`%0D%0Aand\\x1b]]> <more> & "so" (a label; some help)'
    )
    pattern = re.compile(r"::(error|warning) file=[^,:]+(,(line|col|endLine|endColumn)=\d+)*,title=vmrun E\d{3}::.+")
    assert all(pattern.fullmatch(line) for line in lines)


def test_sarif_is_valid(checked: list[Checked]) -> None:
    log: dict[str, Any] = json.loads(text("sarif", checked))
    jsonschema.Draft202012Validator(SARIF_SHAPE).validate(log)
    (run,) = log["runs"]
    assert len(run["results"]) == count(checked)
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    last = run["results"][-1]
    assert (
        last["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "dir%20with%20space/%C3%BC%2C%3A%25.toml"
    )
    assert [place["message"]["text"] for place in last["relatedLocations"]] == ["over there"]
    assert len(json.loads(text("sarif", []))["runs"][0]["results"]) == 0


def test_findings_in_set_arguments_are_in_no_file() -> None:
    found = check_one(str(GOLDEN / "warnings.toml"), EXAMPLE_KNOWN, ["cpu.cuont=1"], None, ())
    checked = [Checked("m.toml", found)]
    results = json.loads(text("sarif", checked))["runs"][0]["results"]
    assert "locations" not in results[0]
    assert text("github", checked).startswith("::error file=m.toml,title=vmrun E014::")


def test_junit_is_xml_with_a_case_a_manifest(checked: list[Checked]) -> None:
    root = ElementTree.fromstring(text("junit", checked))
    cases = root.findall("./testsuite/testcase")
    assert [case.get("name") for case in cases] == [c.name for c in checked]
    failures = root.findall(".//failure")
    assert (
        root.get("failures")
        == str(len(failures))
        == str(sum(any(f.severity == "error" for f in c.findings) for c in checked))
    )
    assert failures[-1].get("type") == "E014"
    assert "50% of" in (failures[-1].text or "")
    (warned,) = [case for case in cases if case.get("name") == "warnings.toml"]
    assert warned.find("failure") is None
    assert "E051" in (warned.findtext("system-out") or "")
