"""IA3 as peft has it, on transformers' ESM."""

from __future__ import annotations

import pytest
from encoders import native

OLD_NAMES = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # which peft asks for


def peft_model():
    """IA3 of peft on transformers' ESM, matched by regular expressions: suffixes would take attention.output too."""
    import peft

    target = r".*\.layer\.\d+\.(attention\.self\.(key|value)|output\.dense)"
    config = peft.IA3Config(target_modules=target, feedforward_modules=r".*\.layer\.\d+\.output\.dense")
    return peft.get_peft_model(native("esm2").esm, config)


def peft_vectors(model):
    """Its vectors by block: key, value, inner."""
    found = {name: vector for name, vector in model.named_parameters() if "ia3_l" in name}
    parts = ("attention.self.key", "attention.self.value", "layer.{}.output.dense")
    blocks = range(model.config.num_hidden_layers)
    pick = [[[v for n, v in found.items() if f"layer.{b}." in n and p.format(b) in n] for b in blocks] for p in parts]
    assert len(found) == sum(len(one) for part in pick for one in part) == 3 * len(blocks)
    return [[one[0] for one in part] for part in pick]
