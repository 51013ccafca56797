"""Power-of-two scales of the Winograd domain at three granularities, learned or chosen from samples."""

import math
from enum import Enum

import numpy as np
import torch
from torch import Tensor, nn

from winohw.train.fake_quantization import round_through

__all__ = ["Granularity", "ShiftTable", "best_shifts"]


class Granularity(Enum):
    """How many scales a step of the Winograd domain has."""

    #: One for all taps.
    STAGE = "stage"
    #: One for each row and one for each column of taps, multiplied: 2n numbers.
    ROW_COLUMN = "row-column"
    #: One for each tap: n² numbers.
    TAP = "tap"


class ShiftTable(nn.Module):
    """The shifts of one step, a number of the granularity each; rounded to integers wherever they are used.

    Parameters
    ----------
    n
        Taps each way.
    granularity
        How many numbers there are.
    learned
        Whether they are parameters, with straight-through gradients, or stay as they were calibrated.
    """

    def __init__(self, n: int, granularity: Granularity, learned: bool) -> None:
        super().__init__()
        self.n, self.granularity, self.learned = n, granularity, learned
        sizes = {Granularity.STAGE: (1,), Granularity.ROW_COLUMN: (2, n), Granularity.TAP: (n, n)}
        values = torch.zeros(sizes[granularity])
        if learned:
            self.values = nn.Parameter(values)
        else:
            self.register_buffer("values", values)

    def forward(self, gradient_scale: float = 1.0) -> Tensor:
        """Integer shifts ``[n, n]``; the gradient of a learned one is multiplied by ``gradient_scale``."""
        values = self.values
        if self.learned:
            values = values * gradient_scale + (values * (1 - gradient_scale)).detach()
        values = round_through(values)
        if self.granularity is Granularity.ROW_COLUMN:
            return values[0][:, None] + values[1][None, :]
        return values.expand(self.n, self.n)

    @torch.no_grad()
    def set_cheapest(self, costs: np.ndarray) -> None:
        """Choose the shifts that cost least; ``costs`` as in :func:`best_shifts`."""
        self.values.copy_(torch.from_numpy(best_shifts(costs, self.granularity)))


def best_shifts(costs: np.ndarray, granularity: Granularity) -> np.ndarray:
    """Shifts of least total cost.

    Parameters
    ----------
    costs
        ``[shift, n, n]``: what shift s = 0, 1, … costs at each tap.

    Returns
    -------
    shifts
        ``[1]``, ``[2, n]`` (rows, then columns) or ``[n, n]``, as floats. For rows and columns, which are chosen in
        turn until nothing improves, the optimum is a local one. What makes no difference is as for the whole stage.
    """
    stage = costs.sum(axis=(1, 2)).argmin()
    if granularity is Granularity.STAGE:
        return np.array([stage], np.float32)
    # Taps of phases whose kernels have a zero there cost nothing with any shift; one far from the others' would ask
    # for a greater shift of the products than the hardware has.
    distance = np.abs(np.arange(len(costs)) - stage)[:, None, None]
    costs = costs + 1e-12 * costs.max() * distance
    if granularity is Granularity.TAP:
        return costs.argmin(axis=0).astype(np.float32)
    count, n, _ = costs.shape
    indices = np.arange(n)
    rows, columns = costs.sum(axis=2).argmin(axis=0), np.zeros(n, np.int64)
    total = math.inf
    while True:
        for axis in (0, 1):
            fixed = columns if axis == 0 else rows
            table = costs if axis == 0 else costs.transpose(0, 2, 1)
            for index in range(n):
                # A row may go below zero as long as each of its sums with a column stays a shift on offer.
                options = range(-int(fixed.min()), count - int(fixed.max()))
                prices = [table[s + fixed, index, indices].sum() for s in options]
                (rows if axis == 0 else columns)[index] = options[int(np.argmin(prices))]
        improved = costs[rows[:, None] + columns[None, :], indices[:, None], indices[None, :]].sum()
        if improved >= total:
            return np.stack([rows, columns]).astype(np.float32)
        total = improved
