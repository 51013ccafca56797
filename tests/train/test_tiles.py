import pytest

torch = pytest.importorskip("torch")

from winohw.algorithm.geometry import ConvGeometry  # noqa: E402
from winohw.algorithm.toomcook import winograd  # noqa: E402
from winohw.train import tiles  # noqa: E402
from winohw.train.tiles import Tiling, winograd_domain  # noqa: E402

torch.set_num_threads(1)


def reference(image, weights, input_map, output_map, tiling):
    """The same in plain operations that autograd knows."""
    m, n = tiling.tile_size, tiling.n
    tiles = image.unfold(1, n, m).unfold(2, n, m)  # C, rows, columns, N, n, n
    v = torch.einsum("tp,crxbp->tcrxb", input_map, tiles.reshape(*tiles.shape[:4], n * n))
    products = torch.einsum("tkc,tcrxb->tkrxb", weights, v)
    y = torch.einsum("ot,tkrxb->krxbo", output_map, products)
    y = y.reshape(*y.shape[:4], m, m).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(y.shape[0], tiling.rows * m, tiling.columns * m, -1)


@pytest.mark.parametrize(("m", "n"), [(1, 3), (2, 4), (4, 6), (5, 6)])
def test_values_and_gradients_without_narrowing(m, n):
    torch.manual_seed(m)
    tiling = Tiling(m, n, 3, 2)
    shapes = ((2, tiling.height, tiling.width, 3), (n * n, 4, 2), (n * n, n * n), (m * m, n * n))
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    result, wanted = winograd_domain(*arguments, tiling), reference(*arguments, tiling)
    torch.testing.assert_close(result, wanted)
    gradient = torch.randn_like(wanted)
    got = torch.autograd.grad(result, arguments, gradient)
    torch.testing.assert_close(got, torch.autograd.grad(wanted, arguments, gradient))


def test_blocks_of_any_size_give_the_same(monkeypatch):
    torch.manual_seed(5)
    tiling = Tiling(2, 4, 3, 5, (-8, 7), (-30, 30))
    shapes = ((2, tiling.height, tiling.width, 3), (16, 4, 2), (16, 16), (4, 16))
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    results = []
    for block in (1, 16 * 4 * 3 * 2, 1 << 30):  # a tile, two of five, a row
        monkeypatch.setattr(tiles, "_BLOCK", block)
        result = winograd_domain(*arguments, tiling)
        gradients = torch.autograd.grad((result * torch.arange(3.0)).sum(), arguments)
        results.append((result, *gradients))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


@pytest.mark.parametrize(("size", "stride", "padding"), [(9, 1, 1), (8, 1, 0), (8, 2, 1), (9, 2, 1), (11, 3, 2)])
def test_images_are_padded_and_taken_apart(size, stride, padding):
    torch.manual_seed(6)
    geometry = ConvGeometry(size, size + 2, 2, 1, 3, stride, (padding,) * 4)
    m = 7 - geometry.effective_kernel
    rows, columns = geometry.tile_rows(m), geometry.tile_columns(m)
    tiling = Tiling(m, 6, rows, columns, None, None, padding, stride, tuple(geometry.phases))
    x = torch.randn(2, size, size + 2, 3)
    wide = torch.zeros(2, 99, 99, 3)
    wide[:, padding : padding + size, padding : padding + size + 2] = x
    parts = [wide[:, i::stride, j::stride][:, : tiling.height, : tiling.width] for i, j in geometry.phases]
    image = tiling.gather(x)
    assert torch.equal(image, torch.cat(parts))
    other = torch.randn_like(image)
    torch.testing.assert_close((image * other).sum(), (x * tiling.scatter(other, x.shape)).sum())


def test_finite_differences():
    torch.manual_seed(1)
    tiling = Tiling(2, 4, 1, 2)
    shapes = ((1, tiling.height, tiling.width, 2), (16, 2, 1), (16, 16), (4, 16))
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *a: winograd_domain(*a, tiling), arguments, fast_mode=True)


def test_gradients_stop_where_values_saturate():
    tiling = Tiling(1, 1, 1, 4, (-8, 7), (-128, 127))
    image = torch.tensor([-20.0, -3.0, 5.4, 90.0]).view(1, 1, 4, 1).requires_grad_()
    weights = torch.tensor([[[20.0]]]).requires_grad_()
    one = torch.ones(1, 1)
    result = winograd_domain(image, weights, one, one, tiling)
    assert result.flatten().tolist() == [-128, -60, 100, 127]
    result.sum().backward()
    assert image.grad.flatten().tolist() == [0, 20, 20, 0]
    assert weights.grad.item() == -3 + 5


def test_winograd_with_its_matrices_is_a_convolution():
    torch.manual_seed(2)
    matrices = winograd(4, 3)
    bt, g, at = (torch.from_numpy(matrix.astype("float64")) for matrix in (matrices.bt, matrices.g, matrices.at))
    tiling = Tiling(4, 6, 2, 2)
    image = torch.randint(-128, 128, (3, tiling.height, tiling.width, 2)).double()
    kernels = torch.randint(-128, 128, (5, 3, 3, 3)).double()
    weights = torch.einsum("tr,kcr->tkc", torch.kron(g, g), kernels.reshape(5, 3, 9))
    result = winograd_domain(image, weights, torch.kron(bt, bt), torch.kron(at, at), tiling) / 576
    wanted = torch.nn.functional.conv2d(image.permute(3, 0, 1, 2), kernels).permute(1, 2, 3, 0)
    assert torch.equal(result, wanted)
