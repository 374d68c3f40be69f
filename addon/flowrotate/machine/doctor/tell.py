"""Findings, for people and for programs."""

import json
from collections.abc import Iterable
from dataclasses import asdict

import click

from .finding import Finding

SIGNS = {
    "ok": ("ok", "green"),
    "note": ("note", "cyan"),
    "warning": ("warning", "yellow"),
    "failure": ("FAILURE", "red"),
}


def tell(findings: Iterable[Finding], *, as_json: bool) -> int:
    """Each as soon as it is there. Exit status: 1 when there is a failure, else 0."""
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            click.echo(_line(finding))
    failures = sum(f.level == "failure" for f in found)
    if as_json:
        whole = {"ok": not failures, "findings": [asdict(f) for f in found]}
        click.echo(json.dumps(whole, indent=2))
    else:
        warnings = sum(f.level == "warning" for f in found)
        click.echo(f"\nfailures {failures}, warnings {warnings}")
    return 1 if failures else 0


def _line(finding: Finding) -> str:
    sign, colour = SIGNS[finding.level]
    head = f"{click.style(f'{sign:8}', fg=colour)}{finding.check}: {finding.said}"
    return f"{head}\n{'':8}→ {finding.mend}" if finding.mend else head
