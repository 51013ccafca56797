import numpy as np
import pytest

torch = pytest.importorskip("torch")

from winohw.numerics.formats import Narrowing  # noqa: E402
from winohw.train.fake_quantization import inside, narrow, on_grid, round_through  # noqa: E402


@pytest.mark.parametrize("bits", [2, 8, 10])
@pytest.mark.parametrize("shift", [0, 1, 5])
def test_narrow_is_that_of_the_numerics(bits, shift):
    values = np.concatenate([np.arange(-300, 301), [-(2**15), 2**15 - 1]]) * 4
    x = torch.from_numpy(values.astype(np.float32)) * 2.0**-shift
    step = Narrowing(bits, shift)
    result = narrow(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    np.testing.assert_array_equal(result.numpy(), step.apply(values))


def test_the_gradient_passes_what_is_not_cut_off():
    x = torch.tensor([-9.0, -8.5, -8.4, -0.5, 0.0, 6.9, 7.4, 7.5, 20.0], requires_grad=True)
    narrow(x, -8, 7).backward(torch.arange(1.0, 10.0))
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 6, 7, 0, 0]


def test_round_through_rounds_half_up_and_passes_everything():
    x = torch.tensor([-1.5, -0.5, 0.5, 2.49], requires_grad=True)
    y = round_through(x)
    y.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert y.tolist() == [-1, 0, 1, 2]
    assert x.grad.tolist() == [1, 2, 3, 4]


def test_on_a_grid():
    x = torch.tensor([-3.0, -2.0, -0.12, -0.125, 0.0, 0.13, 0.12, 1.9, 7.0], requires_grad=True)
    y = on_grid(x, 2, -8, 7)
    assert y.tolist() == [-2, -2, 0, 0, 0, 0.25, 0, 1.75, 1.75]
    y.backward(torch.arange(1.0, 10.0))
    assert x.grad.tolist() == [0, 0, 3, 4, 5, 6, 7, 0, 0]
    rectified = on_grid(x, 2, 0, 7)
    assert rectified.tolist() == [0, 0, 0, 0, 0, 0.25, 0, 1.75, 1.75]
    assert torch.autograd.grad(rectified.sum(), x)[0].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_gradients_take_the_layout_of_the_values():
    values = torch.randn(2, 3, 4).permute(2, 0, 1)
    gradient = torch.ones(1, 1, 1).expand(4, 2, 3)
    result = inside(gradient, values, -0.5, 0.5)
    assert result.stride() == values.stride()
    assert torch.equal(result, (values.abs() < 0.5).float())
