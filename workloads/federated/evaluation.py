"""How good the server's weights are: loss and ROUGE-L on dialogues that no client has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..batches import Collator, HostBatch
from ..losses import causal_loss, seq2seq_loss
from ..samsum import Example
from ..vocabulary import end_token
from .rouge import rouge_l
from .training import fitting_threads

if TYPE_CHECKING:
    from .training import ClientTrainer


@dataclass(frozen=True)
class Evaluation:
    """Quality on held-out dialogues.

    Attributes:
        loss: mean loss per target token.
        rouge_l: mean ROUGE-L of greedily generated summaries, on token ids, 0 to 1.
    """

    loss: float
    rouge_l: float


def evaluate(trainer: ClientTrainer) -> Evaluation:
    """Evaluate the weights that are in the trainer's model now; neither they nor torch's generators are changed."""
    with fitting_threads(trainer.config.client):
        return _evaluate(trainer)


def _evaluate(trainer: ClientTrainer) -> Evaluation:
    import torch

    model, client = trainer.model, trainer.config.client
    was_training = model.training
    model.eval()
    weighted, tokens, scores = 0.0, 0, []
    pad, end = model.config.pad_token_id or 0, end_token(model.config)
    collate = Collator(client.source_length, client.target_length, "dynamic", trainer.causal, pad, end)
    try:
        with torch.no_grad():
            for examples in _batches(trainer.data.held_out.examples, client.micro_batch):
                batch = collate(examples)
                weighted += _loss(model, batch, trainer.causal) * batch.loss_tokens
                tokens += batch.loss_tokens
                scores += _rouge(model, collate, examples)
    finally:
        model.train(was_training)
    return Evaluation(weighted / tokens, sum(scores) / len(scores))


def _batches(examples: tuple[Example, ...], size: int) -> Iterator[tuple[Example, ...]]:
    for first in range(0, len(examples), size):
        yield examples[first : first + size]


def _tensors(model: Any, batch: HostBatch) -> tuple[Any, Any, Any]:
    import torch

    arrays = (batch.input_ids, batch.attention_mask, batch.labels)
    ids, mask, labels = (torch.from_numpy(array).to(model.device) for array in arrays)
    return ids, mask, labels


def _loss(model: Any, batch: HostBatch, causal: bool) -> float:
    ids, mask, labels = _tensors(model, batch)
    if causal:
        return float(causal_loss(model(input_ids=ids, attention_mask=mask, use_cache=False).logits, labels))
    decoder = model.prepare_decoder_input_ids_from_labels(labels=labels)
    logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder, use_cache=False).logits
    return float(seq2seq_loss(logits, labels))


def _rouge(model: Any, collate: Collator, examples: tuple[Example, ...]) -> list[float]:
    """ROUGE-L of each summary that the model writes, up to its end token."""
    prompts = [example.source[: collate.source_length] for example in examples]
    width = max(map(len, prompts))
    ids, mask = _left_padded(prompts, width, collate.pad) if collate.causal else _tensors(model, collate(examples))[:2]
    written = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=collate.target_length,
        do_sample=False,
        num_beams=1,
    )
    start = ids.shape[1] if collate.causal else 1  # a decoder begins with its start token
    return [
        rouge_l(_until_end(row[start:].tolist(), collate), example.target[: collate.target_length - 1].tolist())
        for row, example in zip(written, examples)
    ]


def _left_padded(prompts: list[Any], width: int, pad: int) -> tuple[Any, Any]:
    """Prompts of a causal model end where it goes on writing."""
    import torch

    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask


def _until_end(ids: list[int], collate: Collator) -> list[int]:
    if collate.end in ids:
        ids = ids[: ids.index(collate.end)]
    return [token for token in ids if token != collate.pad]
