"""The report of a study, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .compression_study import compression_document
from .document import Document
from .selection_study import selection_document

_DOCUMENTS: dict[str, Callable[[Mapping[str, Any]], Document]] = {
    "compression": compression_document,
    "selection": selection_document,
}


def study_document(result: Mapping[str, Any]) -> Document:
    """The report of a result of :mod:`edgeroof.fl_studies`."""
    return _DOCUMENTS[result["study"]](result)
