"""Every relative link of the documentation leads somewhere, and every page can be found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .markdown import PAGES, ROOT, page_id, prose

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_IMAGE = re.compile(r'<img src="([^"]+)"')
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def links(page: Path) -> list[str]:
    return [link for link in _LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(page)))
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} of {page_id(page)} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link} of {page_id(page)} names no heading"


def test_every_picture_is_shown_somewhere() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in [*links(page), *_IMAGE.findall(prose(page))]}
    assert set((ROOT / "docs" / "images").iterdir()) <= shown


def test_pictures_in_markup_exist_and_are_described() -> None:
    for page in PAGES:
        for tag in re.findall(r"<img [^>]*>", prose(page)):
            (source,) = _IMAGE.findall(tag)
            assert (page.parent / source).is_file(), f"{source} of {page_id(page)} is not there"
            assert re.search(r'alt="[^"]+"', tag), f"{source} of {page_id(page)} has no words"


def test_the_index_lists_every_page_once() -> None:
    index = ROOT / "docs" / "README.md"
    listed = [(index.parent / link).resolve() for link in links(index)]
    assert sorted(listed) == sorted(set(listed))
    pages = {page for page in PAGES if page.parent == index.parent and page != index}
    assert pages <= set(listed)


def test_paths_in_the_text_exist() -> None:
    """A file or folder of the repository that a page names in backquotes, with a slash in it, is there."""
    named = re.compile(r"`((?:profiler|kernels|workloads|reports|tests|benchmarks|tools|docs)/[\w./-]*)`")
    for page in PAGES:
        for path in named.findall(prose(page)):
            assert "NAME" in path or (ROOT / path).exists(), f"{page_id(page)} names {path}, which is not there"
