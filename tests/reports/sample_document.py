"""A report with every kind of block, for its renderers."""

from edgeroof.reports.document import (
    Bar,
    Bars,
    Document,
    Facts,
    Heatmap,
    Line,
    Lines,
    Paragraph,
    Part,
    Point,
    Section,
    Table,
)

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m"


def sample_document(kind: str = "mixed") -> Document:
    """Every kind of block once, with a hostile name."""
    loss = Line("eval loss", tuple(Point(i, 7.4 / (i + 1), 7 / (i + 1), 8 / (i + 1)) for i in range(21)))
    guess = Line("guess", (Point(0, 6.9), Point(20, 6.9)), kind="projected")
    bars = Bars(
        "Step time by what holds it",
        (
            Bar("orin", (Part("memory", 60.0, "memory"), Part("compute", 25.0, "compute")), "85 ms", "projected"),
            Bar("a100", (Part("memory", 5.0, "memory"), Part("idle", 4.0, "idle")), "9 ms"),
        ),
        unit="ms",
        legend=(("memory", "memory"), ("compute", "compute"), ("idle", "idle")),
    )
    heat = Heatmap(
        "Granularity", ("none", "int8"), ("10g", "lte"), ((1.0, 0.1), (1.0, None)), (("42", "0.05"), ("99", "–"))
    )
    table = Table("Clients", ("client", "#examples"), ((HOSTILE, "12"), ("1", "1,200")))
    return Document(
        name="sample",
        title=f"everything {HOSTILE}",
        kind=kind,  # type: ignore[arg-type]
        headlines=("Memory holds 71 % of the step.", f"A second line {HOSTILE}."),
        setting="batch 8",
        sections=(
            Section("Time", (bars, Paragraph("A quiet remark.", "quiet")), lead="Where the time goes."),
            Section("Learning", (Lines("Loss by round", "round", "loss", (loss, guess)),)),
            Section("Links", (heat, table, Facts((("payload", "1.2 MB", "exact"),)), Paragraph("Beware.", "warning"))),
        ),
        warnings=("the clocks were not fixed",),
        command="edgeroof sample",
        created="2026-11-23T18:00:00+00:00",
        files=(("report.html", "this report"),),
    )
