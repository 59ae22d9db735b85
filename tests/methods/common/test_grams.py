"""Gram matrices of images and of task vectors."""

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.common.data_access import take_images
from methods.common.regression import image_grams, task_vector_gram
from methods.common.vit import PlainOps, tokens
from methods.contract import VIT, images, small_checkpoints


class Inputs(PlainOps):
    """Plain weights that keep what every linear layer is given."""

    def __init__(self, weights):
        super().__init__(weights)
        self.rows: dict[str, Tensor] = {}

    def linear(self, name: str, x: Tensor) -> Tensor:
        self.rows[name] = x.flatten(0, -2)
        return super().linear(name, x)


def inputs(weights, pictures: Tensor) -> dict[str, np.ndarray]:
    """Layer -> its inputs, one row a token."""
    ops = Inputs(weights)
    with torch.no_grad():
        tokens(pictures, ops, VIT)
    return {name: rows.double().numpy() for name, rows in ops.rows.items()}


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_grams_are_the_mean_over_tokens_however_images_come(batch):
    weights = small_checkpoints().base
    seen = image_grams(weights, images().split(batch), VIT)
    assert seen.images == 8
    want = inputs(weights, images())
    assert seen.grams.keys() == want.keys()
    for layer, rows in want.items():
        assert seen.grams[layer].dtype == torch.float64
        np.testing.assert_allclose(seen.grams[layer], rows.T @ rows / len(rows), atol=1e-6)


def test_many_images_are_taken_some_at_a_time():
    many = images().repeat(40, 1, 1, 1)  # 320 images of 5 tokens: three parts
    weights = small_checkpoints().base
    seen, few = image_grams(weights, [many], VIT), image_grams(weights, [images()], VIT)
    assert seen.images == 320
    for layer, gram in seen.grams.items():
        torch.testing.assert_close(gram, few.grams[layer], rtol=0, atol=1e-5)


def test_only_the_first_images_count_and_no_batch_is_asked_for_after_them():
    asked = []

    def stream():
        for part in images().split(2):
            asked.append(len(part))
            yield part

    weights = small_checkpoints().base
    seen = image_grams(weights, stream(), VIT, limit=3)
    assert asked == [2, 2]
    assert seen.images == 3
    rows = inputs(weights, images()[:3])["proj"]
    np.testing.assert_allclose(seen.grams["proj"], rows.T @ rows / 3, atol=1e-6)
    assert list(take_images(zip(stream()), 0)) == []
    assert asked == [2, 2]
    assert sum(len(part) for (part,) in take_images(zip(stream()), 100)) == 8  # fewer than wanted


def test_labels_are_cut_with_their_images():
    pairs = [(torch.arange(4.0), torch.arange(4)), (torch.arange(4.0), torch.arange(4, 8))]
    labels = [part.tolist() for _, part in take_images(pairs, 6)]
    assert labels == [[0, 1, 2, 3], [4, 5]]
    assert [len(part) for part, _ in take_images(pairs, None)] == [4, 4]


def test_of_no_image_there_is_no_gram():
    assert image_grams(small_checkpoints().base, iter([]), VIT) == ({}, 0)


def test_the_gram_of_a_task_vector_is_that_of_its_rows():
    tau = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    rows = tau.double().numpy()
    want = sum(np.outer(row, row) for row in rows)
    np.testing.assert_allclose(task_vector_gram(tau), want, atol=1e-12)
    # centred it is the covariance of the rows, times their number
    want = 7 * np.cov(rows, rowvar=False, bias=True)
    np.testing.assert_allclose(task_vector_gram(tau, centre=True), want, atol=1e-12)
    assert task_vector_gram(torch.zeros(7, 4), centre=True).abs().max() == 0
    assert torch.linalg.matrix_rank(task_vector_gram(tau[:2])) == 2
