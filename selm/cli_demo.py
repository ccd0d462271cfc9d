"""`selm demo`: runs the demo, prints its tables, writes its numbers."""

import json
from pathlib import Path

import typer
from rich.text import Text

from selm.cli_output import err, out, session
from selm.demo import PATIENCE_S, run_demo
from selm.demo_report import Report, facts_table, states_table, summary_lines

EXIT_NOT_LEARNED = 1


def run(context: typer.Context, seed: int, json_file: Path | None) -> int:
    """Exit code 0 if it learned, 1 if it did not."""
    report = session(context).run(lambda selm: run_demo(selm, seed, err), patience_s=PATIENCE_S)
    _print(report)
    if json_file is not None:
        text = json.dumps(report.as_json(), indent=2, ensure_ascii=False)
        json_file.write_text(text + "\n", encoding="utf-8")
    return 0 if report.passed else EXIT_NOT_LEARNED


def _print(report: Report) -> None:
    out.print(facts_table(report))
    if any(row.lesson for row in report.rows):
        out.print(states_table(report))
    for line in summary_lines(report):
        out.print(Text(line), soft_wrap=True)
    if report.passed and not any(row.lesson for row in report.rows):
        # A proof of keeping, not of learning: the line must not claim more than the run showed.
        out.print(Text("It knew all of this already; --seed teaches other facts.", "bold green"))
    elif report.passed:
        out.print(Text("It learned.", "bold green"))
    else:
        out.print(Text("It did not learn: at least 11 of 12 are required each time.", "bold red"))
