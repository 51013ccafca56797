from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from winohw.train.data import Cifar10  # noqa: E402
from winohw.train.loop import Recipe, accuracy, augment, fit, to_tensor  # noqa: E402

torch.set_num_threads(1)


def make_data() -> Cifar10:
    """Two classes that differ in brightness."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 80)
    images = (rng.integers(0, 60, (80, 32, 32, 3)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    return Cifar10(images[:64], labels[:64], images[64:], labels[64:])


def make_model():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(48, 10))


RECIPE = Recipe(epochs=4, learning_rate=0.05, batch=16)


def test_it_learns_and_logs(tmp_path):
    data, model = make_data(), make_model()
    lines = []
    fit(model, data, RECIPE, tmp_path / "run.pt", lines.append, checkpoint_steps=5)
    assert accuracy(model, data.test_images, data.test_labels) == 100
    log = (tmp_path / "run.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["step", "5", "10", "15", "16"]
    assert len(lines) == 4


@pytest.mark.parametrize("adaptive", [False, True])
def test_an_interrupted_run_ends_like_one_that_was_not(tmp_path, adaptive):
    data, whole, parts = make_data(), make_model(), make_model()
    recipe = replace(RECIPE, adaptive=adaptive)
    fit(whole, data, recipe, tmp_path / "whole.pt", lambda line: None)

    class Interrupted(Exception):
        pass

    def interrupt(line):
        if line.startswith("step 15/"):
            raise Interrupted

    with pytest.raises(Interrupted):  # after step 15, before it was saved
        fit(parts, data, recipe, tmp_path / "parts.pt", interrupt, checkpoint_steps=5)
    parts = make_model()
    fit(parts, data, recipe, tmp_path / "parts.pt", lambda line: None, checkpoint_steps=5)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_recipe_is_refused(tmp_path):
    data = make_data()
    fit(make_model(), data, RECIPE, tmp_path / "run.pt", lambda line: None)
    with pytest.raises(ValueError, match=r"run\.pt is of a training with .*remove it to start anew"):
        fit(make_model(), data, Recipe(5, 0.05, batch=16), tmp_path / "run.pt")


def test_bad_checkpoints_are_refused(tmp_path):
    path = tmp_path / "run.pt"
    message = r"run\.pt is no checkpoint of winohw, or a damaged one: remove it to start anew"
    for content in (b"", b"nothing of the kind"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            fit(make_model(), make_data(), RECIPE, path)
    torch.save({"recipe": vars(RECIPE)}, path)
    with pytest.raises(ValueError, match=message):
        fit(make_model(), make_data(), RECIPE, path)
    path.unlink()
    fit(make_model(), make_data(), RECIPE, path, lambda line: None)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=message):
        fit(make_model(), make_data(), RECIPE, path)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="of another network"):
        fit(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)), make_data(), RECIPE, path)


def test_a_loss_that_is_not_finite_is_said(tmp_path):
    with pytest.raises(ValueError, match="The loss is not finite at step"):
        fit(make_model(), make_data(), Recipe(4, 1e30, batch=16), tmp_path / "run.pt", lambda line: None)


def test_the_rate_rises_and_falls():
    recipe = Recipe(1, 1.0, warmup=0.25)
    rates = [recipe.rate(step, 8) for step in range(8)]
    np.testing.assert_allclose(rates, [0.5, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_augmented_images_are_shifted_ones():
    images = np.arange(2 * 32 * 32 * 3, dtype=np.uint32).reshape(2, 32, 32, 3) % 251
    images = images.astype(np.uint8)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), constant_values=128)
    result = augment(np.repeat(images[:1], 50, axis=0), np.random.default_rng(1))
    windows = [padded[0, i : i + 32, j : j + 32] for i in range(9) for j in range(9)]
    allowed = {w.tobytes() for w in windows} | {np.ascontiguousarray(w[:, ::-1]).tobytes() for w in windows}
    seen = {image.tobytes() for image in result}
    assert seen <= allowed
    assert len(seen) > 30


def test_bytes_become_signed_numbers():
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, 0, 1] = (0, 128, 255)
    assert to_tensor(images)[0, :, 0, 1].tolist() == [-2, 0, 127 / 64]
