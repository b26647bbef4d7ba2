"""`blindpairs doctor`."""

from dataclasses import asdict

import typer

from blindpairs.cli.app import WORK, Json, Work, command, print_json

MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "problem": ("PROBLEM", "red")}


@command
def doctor(work: Work = WORK, as_json: Json = False) -> None:
    """Check this machine and installation, and print the command that fixes each problem."""
    from blindpairs.doctor import examine

    findings = examine(work)
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mark, colour = MARKS[finding.state]
            typer.echo(f"{typer.style(f'{mark:7}', fg=colour)} {finding.name:{width}}  {finding.value}")
            if finding.remedy:
                typer.echo(f"{'':8}{'':{width}}  -> {finding.remedy}")
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(3)  # for scripts, as for any other input that a command cannot use
