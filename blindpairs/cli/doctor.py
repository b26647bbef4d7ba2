"""`blindpairs doctor`."""

import json
from dataclasses import asdict

import typer

from blindpairs.cli.app import WORK, Json, Work, command

MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "problem": ("PROBLEM", "red")}


@command
def doctor(work: Work = WORK, as_json: Json = False) -> None:
    """Say what this machine and installation can do, and the line that mends what they cannot."""
    from blindpairs.doctor import examine

    findings = examine(work)
    if as_json:
        typer.echo(json.dumps({"schema_version": 1, "findings": [asdict(finding) for finding in findings]}))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mark, colour = MARKS[finding.state]
            typer.echo(f"{typer.style(f'{mark:7}', fg=colour)} {finding.name:{width}}  {finding.value}")
            if finding.remedy:
                typer.echo(f"{'':8}{'':{width}}  -> {finding.remedy}")
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(3)
