"""wiNAS: the way to compute each layer is learned together with the weights, for accuracy and for latency.

Source: J. Fernandez-Marques et al., *Searching for Winograd-aware Quantized Networks*, MLSys 2020, section 4.2, which
builds on H. Cai et al., *ProxylessNAS*, ICLR 2019: in each step a single candidate of every layer is computed, and two
sampled ones when the probabilities are updated.
"""

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from winohw.train.convolution import DirectConv2d, QuantizedConv2d, WinogradConv2d
from winohw.train.data import Cifar10
from winohw.train.latency import Candidate, Latency
from winohw.train.loop import augment, read_checkpoint, to_tensor
from winohw.train.quantized_resnet import QuantizedConvFactory, QuantizedResNet20
from winohw.train.resnet import ConvShape
from winohw.train.shifts import Granularity

__all__ = ["CANDIDATES", "Choice", "SearchRecipe", "SearchedConv", "chosen", "search"]

#: Direct convolution, and F2, F4 (balanced), F6 in 8 and 10 bits, by scales of a stage and of a tap.
CANDIDATES = (
    Candidate(None),
    *(Candidate(m, bits, name) for m in (2, 4, 6) for bits in (8, 10) for name in ("stage", "tap")),
)


def candidate_conv(candidate: Candidate, shape: ConvShape, rectified: bool) -> QuantizedConv2d:
    """The convolution that computes a shape in the candidate's way."""
    sizes = (shape.channels, shape.filters, 3, shape.stride, 1)
    if candidate.tile_size is None:
        return DirectConv2d(*sizes, rectified=rectified, quantize_input=False)
    return WinogradConv2d(
        *sizes,
        tile_size=candidate.tile_size,
        granularity=Granularity(candidate.granularity),
        bits=(candidate.bits,) * 3,
        balanced=candidate.tile_size == 4,
        rectified=rectified,
        quantize_input=False,
    )


class SearchedConv(QuantizedConv2d):
    """One layer of the search: all candidates, which share weights, biases and scales of pixels.

    Parameters
    ----------
    shape
        The layer.
    rectified
        Whether ReLU follows.
    candidates, latency
        What may be chosen, and what each costs.
    """

    def __init__(self, shape: ConvShape, rectified: bool, candidates: tuple[Candidate, ...], latency: Latency) -> None:
        super().__init__(shape.channels, shape.filters, 3, shape.stride, 1, rectified=rectified, quantize_input=False)
        self.candidates = candidates
        self.ways = nn.ModuleList(candidate_conv(candidate, shape, rectified) for candidate in candidates)
        for way in self.ways:
            way.weight, way.bias = self.weight, self.bias
            way.input_exponent, way.output_exponent = self.input_exponent, self.output_exponent
        self.preference = nn.Parameter(torch.zeros(len(candidates)))
        cycles = [latency.cycles(shape.geometry, candidate) for candidate in candidates]
        self.register_buffer("cycles", torch.tensor(cycles, dtype=torch.float32))
        self.active: tuple[int, ...] = (0,)

    def sample(self, generator: np.random.Generator, count: int) -> None:
        """Draw the candidates of the next step, each at most once, by their probabilities."""
        probabilities = torch.softmax(self.preference.detach().double(), 0).numpy()
        count = min(count, int((probabilities > 0).sum()))
        self.active = tuple(generator.choice(len(probabilities), count, replace=False, p=probabilities).tolist())

    def best(self) -> int:
        """Number of the most probable candidate."""
        return int(self.preference.argmax())

    def expected_cycles(self) -> Tensor:
        """Cycles by the probabilities of the candidates."""
        return (torch.softmax(self.preference, 0) * self.cycles).sum()

    def forward(self, x: Tensor) -> Tensor:
        """The active candidates' outputs, weighed by their probabilities among each other."""
        if len(self.active) == 1:
            return self.ways[self.active[0]](x)
        share = torch.softmax(self.preference[list(self.active)], 0)
        return sum(weight * self.ways[number](x) for weight, number in zip(share, self.active, strict=True))

    def calibrate(self, x: Tensor) -> None:
        """Calibrate every candidate, and let the first one stand for the layer."""
        for way in self.ways:
            way.calibrate(x)
        self.active = (0,)


@dataclass(frozen=True)
class SearchRecipe:
    """How to search.

    Parameters
    ----------
    steps
        Pairs of a step for the weights, with one candidate a layer, and one for the preferences, with two.
    latency_weight
        What a latency equal to that of direct convolution adds to the loss.
    learning_rate, preference_rate
        Of the weights (AdamW, see :class:`~winohw.train.loop.Recipe`) and of the preferences (Adam).
    batch, seed
        Images a step; seed of samples and order.
    """

    steps: int
    latency_weight: float = 0.2
    learning_rate: float = 0.001
    preference_rate: float = 0.1
    batch: int = 64
    seed: int = 1


@dataclass(frozen=True)
class Choice:
    """What the search found for one layer."""

    layer: str
    candidate: Candidate
    probability: float
    cycles: float
    direct_cycles: float


def search(
    network: QuantizedResNet20,
    data: Cifar10,
    recipe: SearchRecipe,
    log: Path,
    report: Callable[[str], None] = print,
) -> tuple[tuple[Choice, ...], float]:
    """Learn preferences and weights of a network of :class:`SearchedConv`, which was calibrated.

    Weights learn from the first nine tenths of the training images, preferences from the rest.

    Parameters
    ----------
    log
        CSV file with a line for each step; the state is kept beside it, as ``.pt``, and a search goes on from there.

    Returns
    -------
    choices, seconds
        The most probable candidate of every layer; the processor time of the search, over all of its runs.
    """
    layers = {name: conv for name, conv in network.convs.items() if isinstance(conv, SearchedConv)}
    preferences = [layer.preference for layer in layers.values()]
    taken = {id(parameter) for parameter in preferences}
    weights = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    on_weights = torch.optim.AdamW(weights, recipe.learning_rate)
    on_preferences = torch.optim.Adam(preferences, recipe.preference_rate)
    direct = sum(float(layer.cycles[0]) for layer in layers.values())
    state_file = log.with_suffix(".pt")
    first, seconds = 0, 0.0
    if state_file.exists():
        keys = ("recipe", "network", "on_weights", "on_preferences", "step", "seconds")
        state = read_checkpoint(state_file, keys)
        if state["recipe"] != vars(recipe):
            raise ValueError(f"{state_file} is of a search with {state['recipe']}: remove it to start anew")
        network.load_state_dict(state["network"])
        on_weights.load_state_dict(state["on_weights"])
        on_preferences.load_state_dict(state["on_preferences"])
        first, seconds = state["step"], state["seconds"]
    if not log.exists():
        log.write_text("step,weight_loss,preference_loss,expected_latency,seconds\n")
    split = len(data.train_images) * 9 // 10
    started = time.process_time()
    network.train()
    for step in range(first, recipe.steps):
        generator = np.random.default_rng((recipe.seed, step))
        losses = []
        for low, high, count, optimizer in (
            (0, split, 1, on_weights),
            (split, len(data.train_images), 2, on_preferences),
        ):
            for layer in layers.values():
                layer.sample(generator, count)
            picked = generator.integers(low, high, recipe.batch)
            x, y = to_tensor(augment(data.train_images[picked], generator)), torch.from_numpy(data.train_labels[picked])
            loss = functional.cross_entropy(network(x), y)
            if not math.isfinite(float(loss.detach())):
                raise ValueError(f"The loss is not finite at step {step}: choose a smaller learning rate")
            expected = sum(layer.expected_cycles() for layer in layers.values()) / direct
            optimizer.zero_grad(set_to_none=True)
            (loss + recipe.latency_weight * expected).backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        elapsed = seconds + time.process_time() - started
        with log.open("a", newline="") as file:
            row = [step + 1, *(f"{loss:.5f}" for loss in losses), f"{float(expected.detach()):.5f}", f"{elapsed:.1f}"]
            csv.writer(file).writerow(row)
        if (step + 1) % 10 == 0 or step + 1 == recipe.steps:
            report(
                f"step {step + 1}/{recipe.steps} loss {losses[0]:.4f} "
                f"latency {float(expected.detach()):.3f} {elapsed:.0f} s"
            )
            state = {
                "recipe": vars(recipe),
                "network": network.state_dict(),
                "on_weights": on_weights.state_dict(),
                "on_preferences": on_preferences.state_dict(),
                "step": step + 1,
                "seconds": elapsed,
            }
            torch.save(state, state_file.with_suffix(".tmp"))
            state_file.with_suffix(".tmp").replace(state_file)
    return tuple(_choice(name, layer) for name, layer in layers.items()), seconds + time.process_time() - started


def _choice(name: str, layer: SearchedConv) -> Choice:
    best = layer.best()
    probability = float(torch.softmax(layer.preference.detach(), 0)[best])
    return Choice(name, layer.candidates[best], probability, float(layer.cycles[best]), float(layer.cycles[0]))


def chosen(choices: tuple[Choice, ...]) -> QuantizedConvFactory:
    """Makes the convolutions of the network that a search found."""
    candidates = {choice.layer: choice.candidate for choice in choices}
    return lambda shape, rectified: candidate_conv(candidates[shape.name], shape, rectified)
