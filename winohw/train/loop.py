"""The training loop: epochs over augmented CIFAR-10, resumable, with a CSV log."""

import csv
import math
import pickle
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from winohw.train.data import PIXEL_SCALE, Cifar10, to_pixels
from winohw.train.matrices import Transforms

__all__ = ["Recipe", "accuracy", "augment", "fit", "read_checkpoint", "to_tensor"]

#: Part of the learning rate that learned transforms take: their entries are rounded, and one that jumps is felt
#: by every weight of the layer.
TRANSFORM_SHARE = 0.3


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    epochs
        Passes over the training images.
    learning_rate
        Peak of the schedule: a linear rise over the first ``warmup`` of the steps, then a straight fall to zero.
    batch
        Images a step.
    momentum, weight_decay
        Of stochastic gradient descent with Nesterov's momentum; no decay of biases, scales and matrices.
    adaptive
        AdamW in place of it. Networks whose normalization is folded into the weights need it: their gradients differ
        by orders of magnitude from layer to layer, and a rate that one of them stands is too small for the next.
    warmup
        Part of the steps, 0 to 1.
    images
        Training images used, the first so many; None for all.
    bfloat16
        Convolutions in bfloat16, for the unquantized network only.
    seed
        Of order, augmentation and initial weights.
    """

    epochs: int
    learning_rate: float
    batch: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.1
    images: int | None = None
    bfloat16: bool = False
    seed: int = 1
    adaptive: bool = False

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step."""
        rise = max(1, round(self.warmup * steps))
        return self.learning_rate * min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))


def to_tensor(images: np.ndarray) -> Tensor:
    """Images of bytes ``[N, H, W, 3]`` as the network's input ``[N, 3, H, W]``."""
    pixels = torch.from_numpy(to_pixels(images).astype(np.float32)) * PIXEL_SCALE
    return pixels.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def augment(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each image shifted by up to 4 pixels both ways, with the grey of the padding behind it, and maybe mirrored."""
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), constant_values=128)
    rows = generator.integers(0, 9, count)[:, None] + np.arange(height)
    columns = generator.integers(0, 9, count)[:, None] + np.arange(width)
    mirrored = generator.random(count) < 0.5
    columns[mirrored] = columns[mirrored, ::-1]
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


@torch.no_grad()
def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray, batch: int = 250) -> float:
    """Percentage of images whose greatest logit is the label's."""
    model.eval()
    hits = 0
    for start in range(0, len(images), batch):
        logits = model(to_tensor(images[start : start + batch]))
        hits += int((logits.argmax(1).numpy() == labels[start : start + batch]).sum())
    return 100 * hits / len(images)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Kernels and matrices of the classifier decay, everything else does not; learned transforms take a share of the
    rate."""
    transforms = [p for part in model.modules() if isinstance(part, Transforms) for p in part.parameters()]
    slow = {id(p) for p in transforms}
    decayed = [
        p
        for name, p in model.named_parameters()
        if p.requires_grad and name.endswith("weight") and p.ndim > 1 and id(p) not in slow
    ]
    chosen = slow | {id(p) for p in decayed}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    if transforms:
        groups.append({"params": transforms, "weight_decay": 0.0, "share": TRANSFORM_SHARE})
    return groups


def fit(
    model: nn.Module,
    data: Cifar10,
    recipe: Recipe,
    checkpoint: Path,
    report: Callable[[str], None] = print,
    checkpoint_steps: int = 20,
) -> float:
    """Train a model; continues from ``checkpoint`` where an earlier run was interrupted.

    Parameters
    ----------
    model
        Takes images as :func:`to_tensor` makes them. Its state is read from the checkpoint, if there is one, and
        holds the trained weights at the end.
    checkpoint
        File for weights, optimizer and progress, written every ``checkpoint_steps`` steps; the log of all steps stands
        beside it, as ``.csv``.

    Returns
    -------
    seconds
        Processor time of the training, over all of its runs.

    Raises
    ------
    ValueError
        If the checkpoint is damaged, or belongs to another recipe or another model.
    """
    images, labels = data.train_images[: recipe.images], data.train_labels[: recipe.images]
    per_epoch = len(images) // recipe.batch
    steps = recipe.epochs * per_epoch
    groups = parameter_groups(model, recipe.weight_decay)
    if recipe.adaptive:
        optimizer = torch.optim.AdamW(groups)
    else:
        optimizer = torch.optim.SGD(groups, 0.0, recipe.momentum, nesterov=True)
    step, seconds = _restore(model, optimizer, recipe, checkpoint)
    log = checkpoint.with_suffix(".csv")
    if not log.exists():
        log.write_text("step,epoch,learning_rate,loss,accuracy,seconds\n")
    started = time.process_time()
    running_loss, running_hits, counted = 0.0, 0, 0
    order, current = np.empty(0, np.int64), -1
    while step < steps:
        epoch, position = divmod(step, per_epoch)
        if epoch != current:
            order, current = np.random.default_rng((recipe.seed, epoch)).permutation(len(images)), epoch
        chosen = order[position * recipe.batch : (position + 1) * recipe.batch]
        x = to_tensor(augment(images[chosen], np.random.default_rng((recipe.seed, epoch, position))))
        y = torch.from_numpy(labels[chosen])
        rate = recipe.rate(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
            logits = model(x)
        loss = functional.cross_entropy(logits.float(), y)
        if not math.isfinite(float(loss.detach())):
            raise ValueError(f"The loss is not finite at step {step}: choose a smaller learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        running_loss += float(loss.detach())
        running_hits += int((logits.argmax(1) == y).sum())
        counted += 1
        if step % checkpoint_steps == 0 or step == steps:
            elapsed = seconds + time.process_time() - started
            share = 100 * running_hits / (counted * recipe.batch)
            with log.open("a", newline="") as file:
                row = [step, f"{step / per_epoch:.3f}", f"{rate:.6g}", f"{running_loss / counted:.5f}", f"{share:.3f}"]
                csv.writer(file).writerow([*row, f"{elapsed:.1f}"])
            report(
                f"step {step}/{steps} epoch {step / per_epoch:.2f} loss {running_loss / counted:.4f} "
                f"accuracy {share:.2f} % {elapsed:.0f} s"
            )
            _save(model, optimizer, recipe, checkpoint, step, elapsed)
            running_loss, running_hits, counted = 0.0, 0, 0
    return seconds + time.process_time() - started


def _save(model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, path: Path, step: int, seconds: float):
    state = {
        "recipe": vars(recipe),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def _restore(model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, path: Path) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = read_checkpoint(path, ("recipe", "model", "optimizer", "step", "seconds"))
    if {**vars(Recipe(0, 0.0)), **state["recipe"]} != vars(recipe):
        raise ValueError(f"{path} is of a training with {state['recipe']}, not {vars(recipe)}: remove it to start anew")
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is of a training of another network: remove it to start anew") from error
    return state["step"], state["seconds"]


def read_checkpoint(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """What a checkpoint holds.

    Raises
    ------
    ValueError
        If it is none, or damaged, or a key is missing; the message names the file.
    """
    try:
        state = torch.load(path, weights_only=True)
        return {key: state[key] for key in keys}
    except (KeyError, TypeError, IndexError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is no checkpoint of winohw, or a damaged one: remove it to start anew") from error
