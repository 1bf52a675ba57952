"""A :class:`~.document.Document` as markup without scripts or figures, for readers whose browser runs none.

Figures stand as the tables of their numbers. Every text is escaped; links lead to the same names as those of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .document import KIND_NOTES, Block, Claim, Document, Facts, Paragraph, Table, board_line, caption
from .document_markdown import figure_numbers
from .text import clean


def render(document: Document) -> str:
    """What the page says, from its title to its command."""
    parts = [_tag("h1", _text(document.title)), _tag("p", _text(document.setting)), _note(document)]
    claims = [*document.claims, *[()] * len(document.headlines)]
    parts += [_tag("p", _claimed(line, own)) for line, own in zip(document.headlines, claims)]
    parts += [_tag("p", f"Warning: {_text(warning)}") for warning in document.warnings]
    for section in document.sections:
        parts += [_tag("h2", _text(section.title)), _tag("p", _text(section.lead)), *map(_block, section.blocks)]
    parts.append(_tag("p", _text(f"{document.command} {document.created}".strip())))
    return f'<div class="plain">{"".join(parts)}</div>'


def _note(document: Document) -> str:
    return _tag("p", f"{_text(document.kind)}. {_text(KIND_NOTES[document.kind])}")


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return _tag("p", _text(block.text))
    if isinstance(block, Facts):
        return "".join(_tag("p", _text(": ".join(filter(None, row)))) for row in block.rows)
    if isinstance(block, Table):
        table = _table(caption(block), block.heads, block.rows, block.anchors, block.links)
        name = block.choice.name if block.choice else block.name
        return f'<div id="{escape(name)}">{table}</div>' if name else table
    heads, rows = figure_numbers(block)
    return _table(caption(block), heads, rows) + _tag("p", _text(board_line(block)))


def _table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    anchors: Sequence[str] = (),
    links: Sequence[str] = (),
) -> str:
    head = "".join(_tag("th", _text(name.removeprefix("#"))) for name in heads)
    body = []
    for place, (first, *others) in enumerate(rows):
        name = f' id="{escape(anchors[place])}"' if anchors else ""
        link = links[place].partition("?")[0] if links else ""
        cells = [f'<a href="{escape(link)}">{_text(first)}</a>' if link else _text(first), *map(_text, others)]
        body.append(f"<tr{name}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f'<div class="scroll"><table><caption>{_text(title)}</caption><tr>{head}</tr>{"".join(body)}</table></div>'


def _claimed(sentence: str, claims: Sequence[Claim]) -> str:
    """A sentence whose claims lead to what they speak of, without the choice of rows that takes a script."""
    done, left = "", sentence
    for claim in sorted((claim for claim in claims if claim.text in sentence), key=lambda c: sentence.index(c.text)):
        before, found, after = left.partition(claim.text)
        if found:
            done += f'{_text(before)}<a href="{escape(claim.href.partition("?")[0])}">{_text(found)}</a>'
            left = after
    return done + _text(left)


def _tag(name: str, markup: str) -> str:
    return f"<{name}>{markup}</{name}>" if markup else ""


def _text(text: str) -> str:
    return escape(clean(text))
