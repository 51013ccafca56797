"""The command line of the training side. PyTorch is imported only when a command that needs it runs."""

import importlib.util
from pathlib import Path
from types import ModuleType

import click
from click.core import ParameterSource

__all__ = ["train"]

_INSTALL = "PyTorch is not installed. For the CPU build: pip install torch==2.13.0 (or pip install 'winohw[train]')"
_GRANULARITIES = ("stage", "row-column", "tap")


def _experiments() -> ModuleType:
    """The module that does the work; a clear error where PyTorch is missing."""
    if importlib.util.find_spec("torch") is None:
        raise click.ClickException(_INSTALL)
    import torch

    from winohw.train import experiments

    torch.set_num_threads(1)
    return experiments


def _data(folder: Path):
    from winohw.train.data import load_cifar10

    try:
        return load_cifar10(folder)
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _command() -> str:
    """The command that is running, for the table of results."""
    context = click.get_current_context()
    parts = ["winohw train", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params[parameter.name]
        if isinstance(parameter, click.Argument):
            parts.append(value)
        elif context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT:
            values = () if value is True else value if isinstance(value, tuple) else (value,)
            parts.extend((parameter.opts[0], *map(str, values)))
    return " ".join(parts)


_data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), default=Path("data"), help="Folder with CIFAR-10."
)
_results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    help="Folder for checkpoints, logs, networks and results.csv.",
)
_torch_images_option = click.option(
    "--torch-images", type=int, help="Test images for the fake-quantized network, too; all unless told."
)
_seed_option = click.option("--seed", default=1, help="Of initial weights, order and augmentation.")


def _arithmetic_options(command):
    options = [
        click.option(
            "--tile-size", type=click.Choice(["2", "3", "4", "6"]), help="m of F(m×m, 3×3); direct if left out."
        ),
        click.option("--transforms", type=click.Choice(["static", "flex"]), default="static", help="Fixed or learned."),
        click.option("--granularity", type=click.Choice(_GRANULARITIES), default="tap", help="Scales of each step."),
        click.option("--bits", nargs=3, type=int, default=(8, 8, 8), help="Widths of pixels, weights and products."),
        click.option("--learned-scales", is_flag=True, help="Learn the scales, too."),
        click.option("--fraction-bits", default=4, help="Of learned matrices, 0 to 8."),
        click.option("--balanced", is_flag=True, help="Matrices that suit narrow steps (F4)."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _arithmetic(experiments: ModuleType, tile_size: str | None, granularity: str, **options):
    size = None if tile_size is None else int(tile_size)
    return experiments.Arithmetic(size, granularity=experiments.Granularity(granularity), **options)


@click.group()
def train() -> None:
    """Train, quantize, search and evaluate ResNet-20 on CIFAR-10.

    Every command goes on where it was interrupted, as long as its folder of results is kept.
    """


@train.command()
@_data_option
@_results_option
@_seed_option
@click.option("--epochs", default=30)
@click.option("--rate", default=0.2, help="Greatest learning rate.")
@click.option("--batch", default=128, help="Images a step.")
def unquantized(data: Path, results: Path, seed: int, epochs: int, rate: float, batch: int) -> None:
    """Train the unquantized network."""
    experiments = _experiments()
    results.mkdir(parents=True, exist_ok=True)
    recipe = experiments.Recipe(epochs, rate, batch=batch, bfloat16=True, seed=seed)
    checkpoint = results / "float.pt"
    try:
        _, seconds, accuracy = experiments.train_float(_data(data), recipe, checkpoint, click.echo)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    experiments.append_result(results / "results.csv", "float", None, accuracy, seed, seconds, _command())
    click.echo(f"{accuracy:.2f} % of the test images")


@train.command()
@click.argument("row")
@_data_option
@_results_option
@_arithmetic_options
@_torch_images_option
def quantize(row: str, data: Path, results: Path, torch_images: int | None, tile_size, **options) -> None:
    """Quantize the unquantized network without retraining; ROW names the result."""
    experiments = _experiments()
    cifar = _data(data)
    network = _quantized(experiments, cifar, results, _arithmetic(experiments, tile_size, **options))
    _finish(experiments, results, row, network, cifar, 1, 0.0, torch_images)


@train.command()
@click.argument("row")
@_data_option
@_results_option
@_seed_option
@_arithmetic_options
@click.option("--epochs", default=2)
@click.option("--rate", default=0.001, help="Greatest learning rate.")
@click.option("--batch", default=128, help="Images a step.")
@click.option("--images", type=int, help="Training images used; all unless told.")
@_torch_images_option
def tune(row: str, data: Path, results: Path, seed, epochs, rate, batch, images, torch_images, tile_size, **options):
    """Train a quantized network, starting from the unquantized one; ROW names the result."""
    experiments = _experiments()
    cifar = _data(data)
    network = _quantized(experiments, cifar, results, _arithmetic(experiments, tile_size, **options))
    recipe = experiments.Recipe(epochs, rate, batch=batch, images=images, seed=seed, adaptive=True)
    try:
        seconds = experiments.tune(network, cifar, recipe, results / f"{row}.pt", click.echo)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    _finish(experiments, results, row, network, cifar, seed, seconds, torch_images)


@train.command()
@click.argument("row")
@_data_option
@_results_option
@_seed_option
@click.option("--steps", default=400, help="Steps of the weights and of the preferences.")
@click.option("--batch", default=64, help="Images a step.")
@click.option("--latency-weight", default=0.2, help="What the latency of direct convolution adds to the loss.")
@click.option(
    "--latency",
    type=click.Path(path_type=Path, exists=True),
    help="JSON table of cycles; those of this project's engines by their cost model unless told.",
)
@click.option("--multipliers", default=144, help="Of those engines.")
@click.option("--epochs", default=2, help="Of the training of the network that was found.")
@click.option("--rate", default=0.001, help="Greatest learning rate of that.")
@click.option("--images", type=int, help="Training images of that; all unless told.")
@_torch_images_option
def search(
    row: str,
    data: Path,
    results: Path,
    seed: int,
    steps: int,
    batch: int,
    latency_weight: float,
    latency: Path | None,
    multipliers: int,
    epochs: int,
    rate: float,
    images: int | None,
    torch_images: int | None,
) -> None:
    """Search for a way to compute each layer (wiNAS), then train the network that was found."""
    experiments = _experiments()
    from winohw.train.latency import EngineLatency, LatencyTable
    from winohw.train.search import SearchRecipe

    cifar = _data(data)
    recipe = SearchRecipe(steps, latency_weight, batch=batch, seed=seed)
    try:
        base = experiments.load_float(results / "float.pt")
        geometries = [shape.geometry for shape in base.shapes]
        table = EngineLatency(geometries, multipliers) if latency is None else LatencyTable.load(latency)
        network, choices, found = experiments.find(
            base, cifar, recipe, table, results / f"{row}-search.csv", click.echo
        )
        experiments.write_choices(results / f"{row}-layers.csv", choices)
        training = experiments.Recipe(epochs, rate, images=images, seed=seed, adaptive=True)
        seconds = found + experiments.tune(network, cifar, training, results / f"{row}.pt", click.echo)
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for choice in choices:
        click.echo(
            f"{choice.layer:6} {choice.candidate!s:18} {choice.cycles:8.0f} cycles, "
            f"{choice.direct_cycles / choice.cycles:5.2f} times as fast"
        )
    cycles, direct = (sum(getattr(choice, name) for choice in choices) for name in ("cycles", "direct_cycles"))
    click.echo(f"{cycles:.0f} cycles an image in place of {direct:.0f}, {direct / cycles:.2f} times as fast")
    _finish(experiments, results, row, network, cifar, seed, seconds, torch_images)


@train.command()
@click.option("--batch", default=128, help="Images a step.")
def speed(batch: int) -> None:
    """Time of a training step with each kind of convolution, beside direct int8 convolution."""
    experiments = _experiments()
    direct = experiments.step_seconds(experiments.Arithmetic(), batch)
    click.echo(f"{'direct':12} {direct:6.2f} s")
    for tile_size, transforms in ((2, "static"), (4, "static"), (4, "flex"), (6, "static")):
        seconds = experiments.step_seconds(experiments.Arithmetic(tile_size, transforms), batch)
        click.echo(f"F{tile_size} {transforms:9} {seconds:6.2f} s {seconds / direct:5.2f} times direct")


@train.command()
@click.option(
    "--network", type=click.Path(path_type=Path, exists=True), help="File of a network; the packaged one unless told."
)
@_data_option
@click.option("--exact", type=click.Choice(["1", "2", "4"]), help="Compute all convolutions exactly by F(m×m, 3×3).")
@click.option("--log", type=click.Path(path_type=Path), help="CSV file; an interrupted evaluation goes on from there.")
def evaluate(network: Path | None, data: Path, exact: str | None, log: Path | None) -> None:
    """Accuracy of a network in whole numbers on all test images; needs no PyTorch."""
    from winohw.samples import trained_resnet20
    from winohw.train.evaluation import evaluate, exactly
    from winohw.train.integer import IntegerResNet

    cifar = _data(data)
    try:
        integer = IntegerResNet.load(trained_resnet20() if network is None else network)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if exact is not None:
        integer = exactly(integer, int(exact))
    evaluation = evaluate(integer, cifar.test_images, cifar.test_labels, log, report=click.echo)
    click.echo(f"{evaluation.accuracy:.2f} % of {evaluation.images} images")


def _quantized(experiments: ModuleType, cifar, results: Path, arithmetic):
    try:
        return experiments.quantize(experiments.load_float(results / "float.pt"), cifar, arithmetic.conv)
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _finish(experiments: ModuleType, results: Path, row: str, network, cifar, seed, seconds, torch_images) -> None:
    evaluation = experiments.record(results, row, network, cifar, seed, seconds, _command(), click.echo, torch_images)
    click.echo(f"{evaluation.accuracy:.2f} % of {evaluation.images} test images, in whole numbers")
