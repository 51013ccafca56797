import numpy as np
import pytest

torch = pytest.importorskip("torch")

from winohw.numerics.formats import Narrowing  # noqa: E402
from winohw.train.fake_quantization import narrow, round_through  # noqa: E402


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
