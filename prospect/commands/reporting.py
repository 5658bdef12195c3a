"""The command that shows how good spans are, and takes back what people mended: annotate-report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import ProspectError
from prospect.commands.options import Json
from prospect.commands.terminal import clear_errors, print_json, tell

app = typer.Typer()


@app.command()
def annotate_report(
    spans: Annotated[list[Path], typer.Argument(help="Spans files of the same videos, e.g. of several methods.")],
    out: Annotated[Path, typer.Option(help="Folder of the report; with --apply, the spans file to write.")],
    dialogues: Annotated[Path | None, typer.Option(help="SPLIT_dialogues.jsonl: what was said, for the page.")] = None,
    apply: Annotated[
        Path | None, typer.Option(help="A report's spans.tsv as you edited it: write SPANS as it has them.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is at --out.")] = False,
    json: Json = False,
) -> None:
    """Show how good spans are.

    Numbers, the twenty videos with most to look at on a page, and a table of spans to edit and give back.
    """
    with clear_errors():
        if apply:
            _apply(apply, spans, out, dialogues, force, json)
            return
        from prospect.evaluation.spans_report import report_spans

        quality = report_spans(spans, out, dialogues=dialogues, force=force)
        if json:
            print_json(quality)
            return
        for line in _lines(quality):
            tell(line)
        tell(f"written: {out}/report.html, {out}/quality.json, {out}/spans.tsv (edit it, then pass it as --apply)")


def _apply(edits: Path, spans: list[Path], out: Path, dialogues: Path | None, force: bool, json: bool) -> None:
    from pipeline.importers.edits import apply_edits

    if len(spans) != 1:
        raise ProspectError(f"--apply {edits}: found {len(spans)} spans files, expected the one that its table is of")
    if dialogues:
        raise ProspectError("--dialogues: has no effect beside --apply")
    counts = apply_edits(edits, spans[0], out, force=force)
    if json:
        print_json({"file": str(out), "spans": dict(counts)})
        return
    tell(f"{out}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))


def _lines(quality: dict[str, Any]) -> list[str]:
    """The numbers in short."""
    lines = []
    for name, of in quality["annotations"].items():
        median = of["durations_s"]["median"]
        lines.append(
            f"{name}: {of['videos']} videos ({of['videos_without_spans']} without spans), {of['covered']} of "
            f"{of['steps']} steps covered, {of['not_performed']} not performed, {of['without_times']} without times; "
            f"{of['spans']} spans ({of['error']} done wrongly, {of['undone']} taking back, {of['repeated']} repeated, "
            f"{of['parallel']} parallel, {of['doubtful']} doubtful)"
            + (f"; work takes {median:g} s (median)" if median is not None else "")
        )
    for pair in quality["agreement"]:
        gap, f1 = pair["boundary_difference_s"]["median"], pair["f1"]
        lines.append(
            f"{' and '.join(pair['of'])}: {pair['videos']} videos compared, {pair['events']['within']} of "
            f"{pair['events']['a']} and {pair['events']['b']} events within {pair['tolerance_s']:g} s"
            + (f" (F1 {f1:.3f})" if f1 is not None else "")
            + (f"; boundaries {gap:g} s apart (median)" if gap is not None else "")
        )
    return lines
