from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from winohw.train.shifts import Granularity, ShiftTable, best_shifts  # noqa: E402


def costs_around(wanted: np.ndarray, shifts: int = 8) -> np.ndarray:
    return np.square(np.arange(shifts)[:, None, None] - wanted).astype(float)


def test_a_stage_takes_the_least_sum():
    costs = costs_around(np.array([[1, 1], [1, 7]]))
    assert best_shifts(costs, Granularity.STAGE).tolist() == [2]  # 3 · 1 + 25, and 3 · 4 + 16 with 3


def test_taps_take_their_own():
    wanted = np.array([[0, 1, 2], [5, 4, 3], [7, 0, 6]])
    np.testing.assert_array_equal(best_shifts(costs_around(wanted), Granularity.TAP), wanted)


def test_taps_that_cost_nothing_are_as_the_stage():
    wanted = np.array([[3, 4], [3, 2]])
    costs = costs_around(wanted)
    costs[:, 1, 1] = 0
    assert best_shifts(costs, Granularity.TAP).tolist() == [[3, 4], [3, 3]]
    costs[:, :, 1] = 0
    rows, columns = best_shifts(costs, Granularity.ROW_COLUMN)
    assert (rows[:, None] + columns).tolist() == [[3, 3], [3, 3]]


def test_rows_and_columns_find_what_has_that_form():
    wanted = np.array([1, 4, 2])[:, None] + np.array([0, 3, 1])
    rows, columns = best_shifts(costs_around(wanted), Granularity.ROW_COLUMN)
    np.testing.assert_array_equal(rows[:, None] + columns, wanted)


def test_rows_and_columns_are_no_worse_than_their_neighbours():
    costs = np.random.default_rng(1).random((5, 3, 3))
    rows, columns = best_shifts(costs, Granularity.ROW_COLUMN).astype(int)
    i, j = np.indices((3, 3))

    def price(r, c):
        table = r[:, None] + c
        return costs[table, i, j].sum() if table.min() >= 0 and table.max() < 5 else np.inf

    for index, step in product(range(3), (-1, 1)):
        change = np.eye(3, dtype=int)[index] * step
        assert price(rows, columns) <= min(price(rows + change, columns), price(rows, columns + change))


@pytest.mark.parametrize("granularity", Granularity)
def test_tables_hold_what_is_cheapest(granularity):
    wanted = {"stage": np.full((4, 4), 3), "row-column": np.add.outer([1, 2, 0, 3], [0, 1, 2, 1])}
    wanted = wanted.get(granularity.value, np.arange(16).reshape(4, 4) % 7)
    table = ShiftTable(4, granularity, learned=False)
    table.set_cheapest(costs_around(wanted))
    np.testing.assert_array_equal(table().numpy(), wanted)
    assert not list(table.parameters())


def test_learned_shifts_are_rounded_and_have_scaled_gradients():
    table = ShiftTable(3, Granularity.ROW_COLUMN, learned=True)
    with torch.no_grad():
        table.values += torch.tensor([[0.4, 1.6, 2.5], [0.0, -0.4, 3.2]])
    result = table(gradient_scale=0.25)
    np.testing.assert_array_equal(result.detach().numpy(), np.add.outer([0, 2, 3], [0, 0, 3]))
    result.sum().backward()
    np.testing.assert_allclose(table.values.grad.numpy(), np.full((2, 3), 0.75))
