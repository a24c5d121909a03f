"""Losses of embeddings: by hand, invariances, gradients, and in the loop with a table of a teacher's vectors."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import kdlib
from kdlib import Dataset
from kdlib.losses.features import cosine_loss, embedding_error, relational_distances, similarity_preserving
from kdlib.training import adamw

LOSSES = (cosine_loss, embedding_error)


def pair(n=5, width=4, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    return (torch.randn(n, width, generator=drawn, dtype=torch.float64) for _ in range(2))


def test_they_are_their_equations():
    student, teacher = pair()
    cosines, squares = [], []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        product = math.fsum(a * b for a, b in zip(s, t, strict=True))
        cosines.append(1 - product / math.hypot(*s) / math.hypot(*t))
        squares.append(math.dist(s, t) ** 2)
    assert cosine_loss(student, teacher).item() == pytest.approx(math.fsum(cosines) / 5)
    assert embedding_error(student, teacher).item() == pytest.approx(math.fsum(squares) / 5)
    torch.testing.assert_close(cosine_loss(student, teacher), F.cosine_embedding_loss(student, teacher, torch.ones(5)))
    torch.testing.assert_close(embedding_error(student, teacher), 4 * F.mse_loss(student, teacher))
    units = (F.normalize(one, dim=1) for one in pair())
    torch.testing.assert_close(embedding_error(*units), 2 * cosine_loss(student, teacher))


def test_what_changes_them_and_what_does_not():
    student, teacher = pair()
    torch.testing.assert_close(cosine_loss(7 * student, teacher), cosine_loss(student, teacher))
    assert embedding_error(7 * student, teacher) > 2 * embedding_error(student, teacher)
    turned = student @ torch.linalg.qr(torch.eye(4, dtype=torch.float64).roll(1, 0) + 0.1).Q
    for relation in (relational_distances, similarity_preserving):
        torch.testing.assert_close(relation(turned, teacher), relation(student, teacher))
        assert relation(turned[:, :4], teacher).isfinite()
    assert (cosine_loss(turned, teacher) - cosine_loss(student, teacher)).abs() > 0.01


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_right_and_only_the_student_gets_one(loss):
    student, teacher = (one.requires_grad_() for one in pair())
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)
    loss(student, teacher).backward()
    assert teacher.grad is None
    nothing = torch.zeros(2, 4, requires_grad=True)
    loss(nothing, torch.ones(2, 4)).backward()
    assert nothing.grad.isfinite().all()
    assert loss(student.bfloat16(), teacher.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("loss", LOSSES)
def test_what_does_not_fit_is_refused(loss):
    with pytest.raises(ValueError, match="must be equal"):
        loss(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(TypeError, match="floating-point"):
        loss(torch.zeros(3, 4).long(), torch.zeros(3, 4))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_student_learns_a_table_of_embeddings(loss):
    """Bags of tokens against a teacher's vectors: targets of a regression, so the loop needs nothing new."""
    ids = torch.randint(30, (300, 6), generator=torch.Generator().manual_seed(0))
    table = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    vectors = table[ids].mean(dim=1)
    data = Dataset.from_tensors(ids, vectors, validation=None)
    torch.manual_seed(0)
    student = nn.EmbeddingBag(30, 8, mode="mean")
    run = kdlib.fit(student, data, loss, epochs=60, optimizer=partial(adamw, lr=0.1), progress=False)
    assert run.history[-1]["train_loss"] < 0.05 * run.history[0]["train_loss"]
    assert F.cosine_similarity(run.predict(ids), vectors).mean() > 0.98
