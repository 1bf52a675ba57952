"""Put the bytes that T5's blocks move, eager and fused, into ``docs/fused-kernels.md``: no number is typed by hand.

Both steps are recorded with fake tensors, so it needs no GPU and no memory; every op of the record is priced by the
profiler's table of costs, and counted to a block by its module, its operands and its phase.

python benchmarks/fused_bytes.py
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgeroof.profiler.costs import price
from edgeroof.workloads import ClientConfig

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "fused-kernels.md"
BEGIN, END = "<!-- bytes: written by benchmarks/fused_bytes.py -->", "<!-- end of bytes -->"

SCORES = "attention scores to probabilities"
NORMS = "norms, dropout and residual adds"
GATE = "gated GELU and dropout"
LOSS = "cross-entropy"
PRODUCTS = "attention products"
REST = "all else: matrix products, embeddings, copies"

_MATRIX_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")
_ATTENTION = re.compile(r"(encoder|decoder)\.block\.\d+\.layer\.\d\.(SelfAttention|EncDecAttention)$")
_NORM = re.compile(r"(encoder|decoder)\.(block\.\d+\.layer\.\d(\.layer_norm|\.dropout)?|final_layer_norm)$")
_GATE = re.compile(r"(encoder|decoder)\.block\.\d+\.layer\.\d\.DenseReluDense(\.act|\.dropout)?$")

#: Block, and which of the two passes: ``forward`` with the loss, or ``backward``.
Key = tuple[str, str]


def bytes_of(config: ClientConfig) -> Counter[Key]:
    """Bytes of each block and pass in one step, without the optimizer.

    Raises:
        ValueError: an op of a block has no cost.
    """
    from edgeroof.workloads.dry import dry_step

    moved: Counter[Key] = Counter()
    for record in dry_step(config).records:
        if record.phase not in ("forward", "loss", "backward"):
            continue
        block, cost = block_of(record, config), price(record)
        if cost is None and block != REST:
            raise ValueError(f"{record.name} in {record.module} has no cost")
        moved[block, "backward" if record.phase == "backward" else "forward"] += int(cost.bytes) if cost else 0
    return moved


def block_of(record: Any, config: ClientConfig) -> str:
    """The block an op counts to, with its stack where it has one."""
    name = record.name.partition("::")[2]
    if name in _MATRIX_PRODUCTS:
        found = _ATTENTION.match(record.module)
        return _attention(found, PRODUCTS) if found and _has_scores(record, config) else REST
    if record.phase == "loss" or name.startswith("cross_entropy") or _is_loss(record, config):
        return LOSS
    for pattern, what in ((_ATTENTION, SCORES), (_NORM, NORMS), (_GATE, GATE)):
        found = pattern.match(record.module)
        if found and what != SCORES:
            return f"{found[1]}: {what}"
        if found and (name.startswith("attention") or _has_scores(record, config)):
            return _attention(found, what)
    return REST


def _attention(found: re.Match[str], what: str) -> str:
    return f"{found[1]}: {'cross-' if found[2] == 'EncDecAttention' else 'self-'}{what}"


def _is_loss(record: Any, config: ClientConfig) -> bool:
    """Backward ops outside all modules whose operands are as large as the logits."""
    logits = config.micro_batch * config.target_length
    return not record.module and any(
        len(meta.shape) > 1 and meta.numel // meta.shape[-1] == logits for meta in _tensors(record)
    )


def _has_scores(record: Any, config: ClientConfig) -> bool:
    """Whether an op of an attention has operands [.., Q, K]; the others copy queries, keys, values and their sum."""
    lengths = (config.source_length, config.target_length)
    return any(
        len(meta.shape) > 2 and meta.shape[-1] in lengths and meta.shape[-2] in lengths for meta in _tensors(record)
    )


def _tensors(record: Any) -> Iterator[Any]:
    from edgeroof.profiler.costs.cost import flatten

    yield from flatten(record.args)
    yield from record.outputs


def table(eager: Counter[Key], fused: Counter[Key], layers: int) -> Iterator[str]:
    """Lines of a Markdown table, in MB a layer."""
    yield "| block | eager forward | eager backward | fused forward | fused backward | fewer |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    blocks = sorted({block for block, _ in eager}, key=lambda block: (block in (LOSS, REST), block == REST, block))
    for block in blocks:
        yield _row(block, [block], eager, fused, 1 if block in (LOSS, REST) else layers)
    yield _row("**the step without its optimizer**", blocks, eager, fused, 1)


def _row(title: str, blocks: Iterable[str], eager: Counter[Key], fused: Counter[Key], parts: int) -> str:
    columns = [
        sum(side[block, which] for block in blocks) / parts / 1e6
        for side in (eager, fused)
        for which in ("forward", "backward")
    ]
    quotient = sum(columns[:2]) / sum(columns[2:]) if sum(columns[2:]) else float("inf")
    cells = [*(f"{megabytes:,.0f}" for megabytes in columns), f"{quotient:.2f} ×"]
    where = "" if title.startswith("**") else ", whole step" if parts == 1 else ", a layer"
    return f"| {title}{where} | {' | '.join(cells)} |"


def attention_table(eager: Counter[Key], fused: Counter[Key], flash: Counter[Key], layers: int) -> Iterator[str]:
    """Lines of a Markdown table of attentions with their two products, forward and backward, in MB a layer."""
    yield "| attention with its products | eager | softmax fused | whole | softmax, fewer | whole, fewer |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for which in ("encoder: self-", "decoder: self-", "decoder: cross-"):
        sides = [
            sum(side[which + what, one] for what in (SCORES, PRODUCTS) for one in ("forward", "backward"))
            for side in (eager, fused, flash)
        ]
        cells = [f"{side / layers / 1e6:,.0f}" for side in sides] + [f"{sides[0] / side:.2f} ×" for side in sides[1:]]
        yield f"| {which}attention, a layer | {' | '.join(cells)} |"


def sections(config: ClientConfig, layers: int) -> Iterator[str]:
    """Tables in fp32 and in bf16 autocast."""
    import dataclasses

    for precision, title in (("fp32", "fp32"), ("bf16", "bf16 autocast over fp32 weights")):
        eager = dataclasses.replace(config, precision=precision)
        fused = dataclasses.replace(eager, fused=True)
        shape = f"batch {config.micro_batch}, {config.source_length}/{config.target_length} tokens"
        yield f"FLAN-T5-{config.model}, {shape}, {title}; MB, means over {layers} layers:"
        sides = [bytes_of(one) for one in (eager, fused, dataclasses.replace(fused, attention="flash"))]
        yield "\n".join(table(*sides[:2], layers))
        yield "\n".join(attention_table(*sides, layers))


def filled(document: str, parts: list[str]) -> str:
    """The document with new tables between its markers.

    Raises:
        ValueError: the markers are not there.
    """
    between = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not between.search(document):
        raise ValueError(f"there is no {BEGIN} … {END} in the document")
    block = "\n\n".join([BEGIN, *parts, END])
    return between.sub(lambda _: block, document)


def main() -> int:
    """Rewrite the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    # The seed decides which dialogues there are, and padding is fixed, so the shapes do not depend on them.
    config = ClientConfig(model="base", batch_size=32, attention="eager", dialogues=32, steps=1)
    parts = list(sections(config, layers=12))
    options.document.write_text(filled(options.document.read_text(encoding="utf-8"), parts), encoding="utf-8")
    print("\n\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
