"""Muon: orthogonal steps for matrices, AdamW's for the rest."""

import copy

import pytest
import torch
from torch import nn

from ldm.muon import Muon, orthogonalize


def take_equal_steps(optimizer, ours, peer, theirs):
    """Let both move their own parameters by three gradients, the same for both."""
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        optimizer.step()
        peer.step()


@pytest.mark.parametrize("shape", [(8, 32), (32, 8), (16, 16)])
def test_singular_values_come_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)).float())
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_the_directions_of_a_matrix_stay():
    torch.manual_seed(0)
    matrix = torch.randn(12, 40)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ orthogonalize(matrix).float() @ vh.T
    assert (turned - turned.diag().diag()).abs().max() < 0.05


def test_a_gradient_of_zeros_moves_nothing():
    assert torch.equal(orthogonalize(torch.zeros(4, 6)), torch.zeros(4, 6, dtype=torch.bfloat16))


def test_a_step_does_not_depend_on_the_size_of_the_gradient():
    torch.manual_seed(0)
    gradient, steps = torch.randn(6, 10), []
    for size in (1.0, 1024.0):
        weight = nn.Parameter(torch.zeros(6, 10))
        weight.grad = size * gradient
        Muon([weight], lr=0.1).step()
        steps.append(weight.detach())
    assert torch.allclose(steps[0], steps[1], atol=1e-3)


def test_a_step_of_a_matrix_is_as_long_as_one_of_adam():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(64, 64))
    weight.grad = torch.randn(64, 64)
    Muon([weight], lr=0.01, weight_decay=0).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.15)


def test_matrices_move_as_torch_s_muon_moves_them():
    torch.manual_seed(0)
    given = [torch.randn(6, 10), torch.randn(10, 6)]
    ours, theirs = ([nn.Parameter(x.clone()) for x in given] for _ in range(2))
    options = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.95}
    peer = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **options)
    take_equal_steps(Muon(ours, **options), ours, peer, theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_vectors_and_tables_move_as_adamw_moves_them():
    torch.manual_seed(0)
    given = [torch.randn(5), torch.randn(7, 3)]
    ours, theirs = ([nn.Parameter(x.clone()) for x in given] for _ in range(2))
    options = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}
    groups = [{"params": ours[:1]}, {"params": ours[1:], "tables": True}]
    peer = torch.optim.AdamW(theirs, **options)
    take_equal_steps(Muon(groups, **options), ours, peer, theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-7)


def test_a_kernel_moves_as_the_matrix_it_flattens_to():
    torch.manual_seed(0)
    kernel, gradient = torch.randn(6, 4, 3, 3), torch.randn(6, 4, 3, 3)
    moved = []
    for shape in ((6, 4, 3, 3), (6, 36)):
        weight = nn.Parameter(kernel.reshape(shape).clone())
        weight.grad = gradient.reshape(shape)
        Muon([weight], lr=0.1).step()
        moved.append(weight.detach().reshape(6, 36))
    assert torch.equal(*moved)


def test_weight_decay_shrinks_what_has_a_gradient_and_leaves_the_rest():
    still, moved = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    moved.grad = torch.zeros(3, 3)
    Muon([still, moved], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(still, torch.ones(3, 3))
    assert torch.allclose(moved, torch.full((3, 3), 0.95))


def test_a_run_continues_to_the_bit_from_its_state():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = Muon(net.parameters(), lr=0.05)
    x = torch.randn(16, 4)

    def step(net, optimizer):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    step(net, optimizer)
    twin = copy.deepcopy(net)
    other = Muon(twin.parameters(), lr=0.05)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(net, optimizer)
    step(twin, other)
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_weak_direction_moves_as_far_as_a_strong_one():
    """What it is for: Adam would follow the strong one, which most of the numbers belong to."""
    torch.manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(12, 2)).Q for _ in range(2))
    weight = nn.Parameter(torch.zeros(12, 12))
    weight.grad = u @ torch.diag(torch.tensor([100.0, 10.0])) @ v.T
    Muon([weight], lr=0.1, weight_decay=0).step()
    strong, weak = (u.T @ weight.detach() @ v).diag().abs()
    assert 0.6 < weak / strong < 1.6
