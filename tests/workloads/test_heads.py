from __future__ import annotations

import pytest
import transformers

from edgeroof.errors import UsageError
from edgeroof.workloads.heads import choose_head


@pytest.mark.parametrize(
    ("model_type", "mode", "architecture", "expected"),
    [
        ("bert", "train", None, "AutoModelForPreTraining"),
        ("bert", "train", "BertForMaskedLM", "AutoModelForPreTraining"),
        ("bert", "train", "BertForQuestionAnswering", "BertForQuestionAnswering"),
        ("bert", "inference", None, "AutoModelForSequenceClassification"),
        ("bert", "inference", "BertForMaskedLM", "AutoModelForSequenceClassification"),
        ("gpt2", "train", None, "AutoModelForCausalLM"),
        ("gpt2", "inference", "GPT2LMHeadModel", "AutoModelForCausalLM"),
        ("opt", "train", None, "AutoModelForCausalLM"),
        ("t5", "inference", None, "AutoModelForSeq2SeqLM"),
        ("switch_transformers", "train", None, "AutoModelForSeq2SeqLM"),
    ],
)
def test_the_head_follows_the_use(model_type, mode, architecture, expected):
    config = transformers.AutoConfig.for_model(model_type)
    config.architectures = [architecture] if architecture else None
    assert choose_head(config, mode).__name__ == expected


def test_a_head_can_be_named():
    config = transformers.AutoConfig.for_model("bert")
    assert choose_head(config, "train", "BertForMaskedLM") is transformers.BertForMaskedLM
    with pytest.raises(UsageError, match="no model class 'BertForCooking'"):
        choose_head(config, "train", "BertForCooking")
