"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from swin_umamba.errors import InputError
from swin_umamba.losses import DeepSupervisionLoss, PartialDiceCELoss, halving_weights

TARGET = torch.tensor([[[[0, 1], [1, 2]]]])  # (1, 1, 2, 2)
UNIFORM = torch.zeros(1, 3, 2, 2)  # every class has probability 1/3


def test_uniform_prediction_by_hand():
    # class 1: 2·(2/3) / (4/3 + 2) = 0.4; class 2: 2·(1/3) / (4/3 + 1) = 2/7; cross-entropy ln 3
    expected = math.log(3) + 1 - (0.4 + 2 / 7) / 2
    assert PartialDiceCELoss(smooth=0)(UNIFORM, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_dice_is_taken_over_the_batch_and_not_per_sample():
    # second sample has no class 2: over the batch I = 1/3, p = 8/3, t = 1 -> 2/11;
    # class 1: I = 1, p = 8/3, t = 3 -> 6/17
    target = torch.cat([TARGET, torch.tensor([[[[0, 1], [0, 0]]]])])
    expected = math.log(3) + 1 - (2 / 11 + 6 / 17) / 2
    assert PartialDiceCELoss(smooth=0)(torch.zeros(2, 3, 2, 2), target).item() == pytest.approx(expected, abs=1e-6)


def test_unlabelled_organ_counts_as_background():
    # class 2 unlabelled: background has 2/3. Target 0 1 / 1 0; Dice of class 1 is 0.4, class 2 contributes no loss
    target = torch.tensor([[[[0, 1], [1, 0]]]])
    labelled = torch.tensor([[True, True, False]])
    expected = -(2 * math.log(2 / 3) + 2 * math.log(1 / 3)) / 4 + (0.6 + 0.0) / 2
    assert PartialDiceCELoss()(UNIFORM, target, labelled).item() == pytest.approx(expected, abs=1e-4)


def test_unlabelled_organ_is_not_punished():
    logits = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    logits[0, 3] = 9.0  # sure of an organ that nobody annotated in sample 0
    logits.requires_grad_()
    labelled = torch.tensor([[True, True, True, False], [True] * 4])
    target = torch.zeros(2, 1, 8, 8)
    PartialDiceCELoss()(logits, target, labelled).backward()
    assert logits.grad[0, 3].abs().max() < 1e-4
    assert logits.grad[0, 1].sum() >= 0
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_give_a_float32_loss():
    loss = PartialDiceCELoss()
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(1)).half()
    assert loss(logits, TARGET).dtype == torch.float32
    assert loss(logits, TARGET).item() == pytest.approx(loss(logits.float(), TARGET).item(), abs=1e-6)


def test_heads_are_weighted_and_targets_brought_down():
    single = PartialDiceCELoss()
    target = torch.zeros(1, 1, 4, 4)
    target[..., 2:, :] = 1
    heads = [torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(size)) for size in (4, 2)]
    half = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])
    expected = 0.7 * single(heads[0], target) + 0.3 * single(heads[1], half)
    assert DeepSupervisionLoss(single, [0.7, 0.3])(heads, target).item() == pytest.approx(expected.item(), abs=1e-6)


def test_head_of_weight_zero_cannot_poison_the_sum():
    heads = [torch.zeros(1, 3, 2, 2), torch.full((1, 3, 1, 1), math.nan)]
    assert torch.isfinite(DeepSupervisionLoss(PartialDiceCELoss(), [1.0, 0.0])(heads, TARGET.float()))


def test_default_weights_are_the_papers():
    assert halving_weights(4) == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0])
    assert halving_weights(1) == [1.0]


def test_default_weights_fit_the_number_of_heads():
    heads = [torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    given = DeepSupervisionLoss(PartialDiceCELoss(), [2 / 3, 1 / 3, 0.0])(heads, TARGET.float())
    assert DeepSupervisionLoss(PartialDiceCELoss())(heads, TARGET.float()).item() == pytest.approx(given.item())


def test_one_tensor_instead_of_heads_and_a_dictionary_target():
    single = PartialDiceCELoss()
    labelled = torch.tensor([[True, True, False]])
    target = {"label": TARGET.clamp(max=1), "labelled": labelled}
    expected = single(UNIFORM, target["label"], labelled)
    assert DeepSupervisionLoss(single)(UNIFORM, target).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0]])
def test_bad_weights(weights):
    with pytest.raises(InputError, match="weights of deep supervision"):
        DeepSupervisionLoss(PartialDiceCELoss(), weights)


def test_number_of_heads_must_be_that_of_weights():
    with pytest.raises(InputError, match="4 weights of deep supervision for 2 heads"):
        DeepSupervisionLoss(PartialDiceCELoss(), [0.25] * 4)([UNIFORM, UNIFORM], TARGET.float())
