"""The written network trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch_nets import module, net, node, small_cnn, weight


def test_gradients_reach_every_parameter(tmp_path: Path) -> None:
    network = module(small_cnn(), tmp_path).load()
    assert not network.training
    network.train()
    network(torch.randn(4, 3, 6, 7)).square().sum().backward()
    parameters = dict(network.named_parameters())
    assert len(parameters) == 7 * 3 + 2
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_normalization_and_dropout_know_the_mode(tmp_path: Path) -> None:
    network = module(small_cnn(), tmp_path).load()
    x = torch.randn(4, 3, 6, 7)
    mean = network.stem_bn.running_mean.clone()
    assert torch.equal(network(x), network(x))
    assert torch.equal(network.stem_bn.running_mean, mean)
    network.train()
    assert not torch.equal(network(x), network(x))
    assert not torch.equal(network.stem_bn.running_mean, mean)


def test_a_few_steps_lower_the_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = module(small_cnn(), tmp_path).load()
    x, y = torch.randn(8, 3, 6, 7), torch.randint(0, 5, (8,))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_factors_train_and_masks_do_not(tmp_path: Path) -> None:
    mask = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
    nodes = [node("Mul", "x gamma", "scaled"), node("Add", "scaled mask", "masked"), node("Sub", "masked mean", "y")]
    weights = {"gamma": weight(4), "mask": mask, "mean": weight(4)}
    network = module(net(nodes, {"x": ["N", 4, 4]}, ["y"], weights), tmp_path).load()
    assert [name for name, _ in network.named_parameters()] == ["gamma"]
    assert {name for name, _ in network.named_buffers()} == {"mask", "mean"}
