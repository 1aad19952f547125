"""Findings for machines: json, github, sarif and junit. Each takes what was checked and returns the whole text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmrun import __version__
from vmrun.errors import Diagnostic, Span
from vmrun.frozen import frozen
from vmrun.printable import clean
from vmrun.ui.catalogue import catalogue
from vmrun.ui.diagnostics import Texts, bounded, concise, full, plain

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@frozen
class Checked:
    """One manifest and what was found in it."""

    name: str
    findings: tuple[Diagnostic, ...]


def _in_file(span: Span | None) -> Span | None:
    """Return a place that is in a file, rather than in the arguments of --set."""
    return span if span and not span.file.startswith("<") else None


def concise_text(checked: Sequence[Checked], texts: Texts) -> str:
    """Return one line a finding."""
    return "".join(f"{concise(f)}\n" for c in checked for f in c.findings)


def full_text(checked: Sequence[Checked], texts: Texts) -> str:
    """Return a block a finding, an empty line between two."""
    return "\n".join(plain(full(f, texts)) for c in checked for f in c.findings)


def json_text(checked: Sequence[Checked], texts: Texts) -> str:
    """Return a JSON array with an object a finding, whose keys are always all there.

    ``manifest``, ``code``, ``severity``, ``message``; ``key`` (array of strings), ``label`` and ``help``, null where
    there is none; ``span``: ``file``, ``line``, ``column``, ``end_line``, ``end_column`` (from 1, the end exclusive,
    columns in characters) or null; ``labels``: array of ``text`` and ``span``.
    """
    import json

    def span(place: Span | None) -> dict[str, Any] | None:
        if place is None:
            return None
        return {
            "file": place.file,
            "line": place.line,
            "column": place.column,
            "end_line": place.end_line,
            "end_column": place.end_column,
        }

    found = [
        {
            "manifest": c.name,
            "code": f.code,
            "severity": f.severity,
            "message": f.message,
            "key": list(f.key) if f.key else None,
            "span": span(f.span),
            "label": f.label,
            "help": f.help,
            "labels": [{"text": label.text, "span": span(label.span)} for label in f.labels],
        }
        for c in checked
        for f in map(bounded, c.findings)
    ]
    return json.dumps(found, indent=2) + "\n"


def github_text(checked: Sequence[Checked], texts: Texts) -> str:
    """Return a workflow command of GitHub Actions a finding, which shows it beside the line in a pull request."""

    def data(text: str) -> str:
        return clean(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))

    def value(text: object) -> str:
        return data(str(text)).replace(":", "%3A").replace(",", "%2C")

    lines = []
    for c in checked:
        for f in map(bounded, c.findings):
            command = f.severity if f.severity in ("error", "warning") else "notice"
            span = _in_file(f.span)
            place = {"file": span.file if span else c.name}
            if span:
                place |= {"line": str(span.line), "col": str(span.column)}
                place |= {"endLine": str(span.end_line), "endColumn": str(span.end_column)}
            place["title"] = f"vmrun {f.code}"
            properties = ",".join(f"{k}={value(v)}" for k, v in place.items())
            hint = "; ".join(text for text in (f.label, f.help) if text)
            lines.append(f"::{command} {properties}::{data(f.message + (f' ({hint})' if hint else ''))}\n")
    return "".join(lines)


def sarif_text(checked: Sequence[Checked], texts: Texts) -> str:
    """Return a SARIF 2.1.0 log with one run, and a rule for each code that was found."""
    import json

    codes = sorted({f.code for c in checked for f in c.findings})
    entries = catalogue()
    rules = [
        {
            "id": code,
            "shortDescription": {"text": entries[code].title if code in entries else code},
            "help": {"text": entries[code].text if code in entries else code},
        }
        for code in codes
    ]
    results = [_sarif_result(f, codes.index(f.code)) for c in checked for f in c.findings]
    driver = {"name": "vmrun", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _sarif_result(finding: Diagnostic, rule: int) -> dict[str, Any]:
    finding = bounded(finding)
    hint = "; ".join(text for text in (finding.label, finding.help) if text)
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": finding.severity if finding.severity in ("error", "warning") else "note",
        "message": {"text": f"{finding.message} ({hint})" if hint else finding.message},
    }
    place = _in_file(finding.span)
    if place:
        result["locations"] = [_sarif_place(place)]
    marks = [(_in_file(label.span), label.text) for label in finding.labels]
    related = [{**_sarif_place(span), "message": {"text": text}} for span, text in marks if span]
    if related:
        result["relatedLocations"] = related
    return result


def _sarif_place(span: Span) -> dict[str, Any]:
    from pathlib import Path
    from urllib.parse import quote

    uri = Path(span.file).as_uri() if span.file.startswith("/") else quote(span.file, errors="surrogateescape")
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}


def junit_text(checked: Sequence[Checked], texts: Texts) -> str:
    """Return JUnit XML with a test case a manifest, which fails where it has errors."""
    from xml.sax.saxutils import escape, quoteattr

    cases = []
    failed = 0
    for c in checked:
        errors = [f for f in c.findings if f.severity == "error"]
        head = f'    <testcase classname="vmrun.check" name={quoteattr(clean(c.name))}'
        body = escape("\n".join(plain(full(f, texts)) for f in c.findings))
        if errors:
            failed += 1
            message = quoteattr(clean(bounded(errors[0]).message))
            cases.append(f"{head}>\n      <failure type={quoteattr(errors[0].code)} message={message}>{body}</failure>")
            cases.append("    </testcase>")
        elif body:
            cases += [f"{head}>\n      <system-out>{body}</system-out>", "    </testcase>"]
        else:
            cases.append(f"{head}/>")
    counts = f'tests="{len(checked)}" failures="{failed}"'
    head = f'<?xml version="1.0" encoding="utf-8"?>\n<testsuites {counts}>\n  <testsuite name="vmrun check" {counts}>\n'
    return head + "".join(f"{case}\n" for case in cases) + "  </testsuite>\n</testsuites>\n"


FORMATS = {
    "full": full_text,
    "concise": concise_text,
    "json": json_text,
    "github": github_text,
    "sarif": sarif_text,
    "junit": junit_text,
}
"""The output formats of `vmrun check`."""
