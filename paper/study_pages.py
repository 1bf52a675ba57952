"""Open questions 2 and 3: the reports of the studies, with what the rest of the experiments adds to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..reports.document import Bars, Block, Document, Heatmap, Lines, Paragraph, Section
from ..reports.studies import study_document
from .links_section import heat_maps

Data = Mapping[str, Any]

COMPRESSION_TITLE = "What does compression buy, for granularity and for learning?"
SELECTION_TITLE = "Can power and MFU choose the clients?"
_COMPRESSION_BOARD = (
    "Left open: whether larger models, which have more redundancy, take the same codecs as well. Only a board can tell "
    "what coding costs on its own cores, in time and in energy."
)
_SELECTION_BOARD = (
    "Left open: everything about the clients here is a model, so this tells how strategies compare if boards behave as "
    "their power modes promise. Only boards can tell their true power at a given MFU, which the strategy would measure."
)

#: What only a board can tell about the figures of each study.
_COMPRESSION_FIGURES = "the time and energy of coding on its own cores, and what its link carries"
_SELECTION_FIGURES = "the power and MFU that a client truly has, and with them its energy and time"


def compression_document(data: Data) -> Document:
    """The page on compression."""
    if data["compression"] is None:
        return _not_run(data, "compression", COMPRESSION_TITLE)
    study = study_document(data["compression"])
    sections = list(with_board(study.sections, _COMPRESSION_FIGURES))
    if data["links"]:
        lead = "the same codecs for FLAN-T5 on the projected devices"
        sections.append(Section("Granularity of the paper's models", tuple(heat_maps(data["links"])), lead=lead))
    sections.append(Section("What is left open", (Paragraph(_COMPRESSION_BOARD),)))
    return _retitled(data, study, "compression", COMPRESSION_TITLE, tuple(sections))


def selection_document(data: Data) -> Document:
    """The page on selection."""
    if data["selection"] is None:
        return _not_run(data, "selection", SELECTION_TITLE)
    study = study_document(data["selection"])
    sections = (
        *with_board(study.sections, _SELECTION_FIGURES),
        Section("What is left open", (Paragraph(_SELECTION_BOARD),)),
    )
    return _retitled(data, study, "selection", SELECTION_TITLE, sections)


def with_board(sections: Sequence[Section], board: str) -> tuple[Section, ...]:
    """The sections with what only a board can tell below each figure that does not say it yet."""

    def told(block: Block) -> Block:
        if not isinstance(block, (Bars, Lines, Heatmap)) or block.board:
            return block
        return dataclasses.replace(block, board=board)

    return tuple(dataclasses.replace(section, blocks=tuple(map(told, section.blocks))) for section in sections)


def _retitled(data: Data, study: Document, name: str, title: str, sections: tuple[Section, ...]) -> Document:
    return dataclasses.replace(
        study, name=name, title=title, sections=sections, command=data["command"], created=data["created"], files=()
    )


def _not_run(data: Data, name: str, title: str) -> Document:
    return Document(
        name,
        title,
        "mixed",
        (f"Not run: edgeroof paper --only {name}",),
        (),
        command=data["command"],
        created=data["created"],
    )
