"""The document itself: the paper's claims beside what is found here, the experiments, and where the answers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..reports.document import Document, Facts, Paragraph, Section, Table
from .breakdown_section import breakdown_section
from .claims import Verdict, judge
from .links_section import links_section
from .optimizer_page import optimizer_answers
from .scaling_section import scaling_section
from .study_pages import compression_document, selection_document

Data = Mapping[str, Any]

TITLE = "The paper's experiments"
_ABOUT = (
    "The paper is arXiv 2310.03150, which fine-tunes FLAN-T5 in a federation of Jetson boards. Its precision, sequence "
    "length, power mode and link rates are not known, so none of its absolute numbers is reproduced here, or claimed "
    "to be: its qualitative claims are judged, by rules that code applies to the numbers below."
)
_KINDS = (
    ("measured here", "on the machine at hand", "named with its figures; a CPU unless it says otherwise"),
    ("projected", "computed from op records and a model of the device", "nothing was measured on an Orin or an A100"),
    ("simulated", "clients, links and host timers are models", "with assumptions that are named"),
    ("computed from counts", "bytes and FLOPs over figures of a data sheet", "a bound, not a time"),
)
_QUICK = "This is the quick plan with a tiny model: it shows that everything runs, and says nothing about the paper."


def paper_document(data: Data) -> Document:
    """The document from collected data."""
    verdicts = judge(data)
    counts = Counter(verdict.verdict for verdict in verdicts)
    tally = ", ".join(f"{counts[name]} {name}" for name in ("agrees", "disagrees", "can't be said") if counts[name])
    quick = (_QUICK,) if data["plan"]["name"] == "quick" else ()
    return Document(
        name="paper",
        title=TITLE,
        kind="mixed",
        headlines=(f"Of {len(verdicts)} claims of the paper: {tally}.", *quick),
        sections=(
            Section("What stands behind a number", (Paragraph(_ABOUT), Facts(_KINDS))),
            _claims(verdicts),
            *map(_reasons, verdicts),
            scaling_section(data),
            links_section(data),
            breakdown_section(data),
            _questions(data),
        ),
        command=data["command"],
        created=data["created"],
    )


def _claims(verdicts: list[Verdict]) -> Section:
    rows = tuple((verdict.claim, verdict.verdict, verdict.basis) for verdict in verdicts)
    table = Table("Claims of the paper beside what is found here", ("the paper", "here", "from"), rows, mark="by row")
    return Section("The paper's claims", (table,), lead="agrees, disagrees or can't be said, by stated rules")


def _reasons(verdict: Verdict) -> Section:
    return Section(
        f"Claim: {verdict.claim}",
        (
            Paragraph(verdict.why),
            Paragraph(f"The rule: {verdict.rule}", "quiet"),
            Paragraph(f"Only a board can tell {verdict.board}.", "quiet"),
        ),
        lead=f"{verdict.verdict}; {verdict.basis}",
    )


def _questions(data: Data) -> Section:
    blocks = []
    for title, lines in (
        ("opt.step()", optimizer_answers(data)),
        ("Compression", compression_document(data).headlines),
        ("Selection", selection_document(data).headlines),
    ):
        blocks += [Paragraph(f"{title}: {line}") for line in lines]
    return Section("4. The open questions", tuple(blocks), lead="in short; each has a page with its evidence")
