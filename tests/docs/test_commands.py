"""Every command that the documentation shows exists, with those options and kinds of values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main

from edgeroof import cli

from .markdown import PAGES, ROOT, blocks, page_id, prose

_IN_TEXT = re.compile(r"`((?:edgeroof|make) [^`]+)`")
_SHELLS = ("", "sh", "bash", "console")


def lines(page: Path) -> Iterator[str]:
    """Command lines in blocks and in backquotes; in running text a command may be named without what it needs."""
    for block in blocks(page):
        if block.language in _SHELLS:
            yield from block.text.replace("\\\n", " ").splitlines()
    for found in _IN_TEXT.findall(prose(page)):
        named = " ".join(found.split())
        yield named if " -" in named or named.startswith("make") else f"{named} …"


def commands(page: Path, program: str) -> list[list[str]]:
    """Arguments of every call of ``program`` on a page; where several are joined, of each."""
    found = []
    for line in lines(page):
        for part in re.split(r"&&|;|\|", re.sub(r"(^|\s)#.*", "", line)):
            words = _words(part.removeprefix("$ "))
            names = [Path(word).name for word in words]
            if program in names and not set(names[: names.index(program)]) - {"sudo", "-E", "env", "PATH=$PATH"}:
                found.append(words[names.index(program) + 1 :])
    return found


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # prose with an apostrophe
        return []


def parse(arguments: list[str]) -> None:
    """Let click parse a command line without running it; with "…" or placeholders in capitals only its options."""
    command: click.Command = typer.main.get_command(cli.app)
    context = click.Context(command, info_name="edgeroof")
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and rest[0] != "…":
        if rest[0].startswith("-"):
            return _options_exist(command, rest)
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None, f"no command {name!r}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    if any(re.fullmatch(r"[A-Z]+|…", word) for word in rest) or "--help" in rest:
        return _options_exist(command, rest)
    command.parse_args(context, rest)


def _options_exist(command: click.Command, words: list[str]) -> None:
    known = {name for option in command.params for name in option.opts} | {"--help"}
    for word in words:
        assert not word.startswith("-") or word in known, f"no option {word}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_are_understood(page: Path) -> None:
    for arguments in commands(page, "edgeroof"):
        try:
            parse(arguments)
        except (click.UsageError, AssertionError) as error:
            message = error.format_message() if isinstance(error, click.UsageError) else error
            pytest.fail(f"{page_id(page)} shows `edgeroof {shlex.join(arguments)}`: {message}")


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))


def variables() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([A-Z_]+) \?=", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_make_has_these_targets_and_variables(page: Path) -> None:
    for words in commands(page, "make"):
        for word in words:
            name, assigns, _ = word.partition("=")
            if assigns:
                assert name in variables(), f"{page_id(page)} sets {name}, which the Makefile does not know"
            else:
                assert word in targets(), f"{page_id(page)} shows make {word}"


def test_the_check_sees_commands_and_their_mistakes() -> None:
    seen = [arguments for page in PAGES for arguments in commands(page, "edgeroof")]
    assert len(seen) > 40
    assert ["profile", "--model", "small"] in seen
    with pytest.raises(AssertionError, match="no command"):
        parse(["profle"])
    with pytest.raises(click.UsageError, match="No such option"):
        parse(["profile", "--modell", "small"])
    with pytest.raises(click.UsageError, match="not a valid integer"):
        parse(["profile", "--batch-size", "many"])


def _examples(group: click.Group, before: str = "") -> Iterator[tuple[str, str]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _examples(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command.epilog or ""


@pytest.mark.parametrize(("name", "epilog"), list(_examples(typer.main.get_command(cli.app))))  # type: ignore[arg-type]
def test_every_help_has_an_example_that_is_understood(name: str, epilog: str) -> None:
    assert epilog.startswith(f"Example: edgeroof {name}")
    parse(shlex.split(epilog.removeprefix("Example: edgeroof ")))
