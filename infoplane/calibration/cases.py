"""Channels with known information, in the form in which a Recorder presents a layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..channels.insertion import insert_echo
from ..channels.layer import Echo
from ..data.icosahedron import icosahedron
from ..estimators.linear import LinearGaussian
from ..estimators.mixture import mixture_information
from ..estimators.protocol import Estimator, Reading
from ..nn.networks import MLP, initialise
from ..recording.exact import certificates_of, rates_of
from ..recording.passes import Passes
from ..records import POINTS, POPULATION, Estimate
from ..streams import Streams, derive
from ..theory.channels import cube_information, discrete_input_information, rotated_neurons
from ..theory.linear import LinearTask, input_information

__all__ = ["Case", "Shown", "Truth", "cases"]

Floats = npt.NDArray[np.float64]

INPUT, LABEL = "I(X;T)", "I(T;Y)"
#: The number of draws in the Monte Carlo truth of N points behind Gaussian noise.
_REFERENCE_DRAWS = 24


@dataclass(frozen=True, slots=True)
class Truth:
    """A known information.

    Args:
        value: The information, in nats.
        stderr: Its standard error, in nats.
    """

    value: float
    stderr: float = 0.0


@dataclass(frozen=True)
class Shown:
    """One draw of N points through a channel.

    Args:
        reading: The codes, as a Recorder presents them to an estimator.
        truths: The known information by quantity (INPUT or LABEL) and law (POINTS or POPULATION).
        labels: The class of each point, (N,); None if the channel has no labels.
        known: Returns what the channel knows about itself. For an Echo layer this is its rate, with
            its certificate.
    """

    reading: Reading
    truths: Mapping[tuple[str, str], Truth]
    labels: Tensor | None = None
    known: Callable[[], list[Estimate]] | None = None


@dataclass(frozen=True)
class Case:
    """A channel, and the estimators that are tried on it.

    Args:
        channel: The name of the channel.
        family: The family of channels that it belongs to; a figure has one colour per family.
        dimension: The number D of units.
        n: The number N of points.
        estimators: The estimators that are tried on it.
        show: Makes one draw from a seed.
    """

    channel: str
    family: str
    dimension: int
    n: int
    estimators: tuple[Estimator, ...]
    show: Callable[[int], Shown] = field(repr=False)


def cases(estimators: Callable[[str, float, int, int], tuple[Estimator, ...]], *, thorough: bool) -> list[Case]:
    """List the channels of the calibration.

    Args:
        estimators: Returns the estimators to try, given (family, noise variance, D, N).
        thorough: Whether to list more sizes N and more dimensions.
    """
    found: list[Case] = []

    def add(channel: str, family: str, dimension: int, n: int, variance: float, show: Callable[[int], Shown]) -> None:
        found.append(Case(channel, family, dimension, n, estimators(family, variance, dimension, n), show))

    for function in FUNCTIONS:
        for std in (0.3, 0.1):
            for dimension in (1, 2, 5, 10, 20, 50) if std == 0.3 or thorough else (1, 5):
                for n in _sizes(function, std, dimension, thorough):
                    add(
                        f"{function} neurons, s = {std}",
                        "neurons",
                        dimension,
                        n,
                        std**2,
                        _neurons(function, std, dimension, n),
                    )
    for dimension in (2, 10):
        add("linear net of Gaussian inputs, s = 1", "linear net", dimension, 2000, 1.0, _linear_net(dimension, 2000))
    for std in (0.2, 1.0):
        add(f"X = -1 or 1, s = {std}", "binary", 1, 2000, std**2, _binary(std, 2000))
    for std in (0.1, 0.5):
        add(f"12 bits, s = {std}", "12 bits", 12, 4096, std**2, _bits(std))
    add("4-bit tanh net of 12 bits", "quantised", 3, 4096, 1e-3, _quantised())
    for name, (law, scale) in ECHO.items():
        for n in (4096, 16384) if thorough else (4096,):
            add(f"echo: {name}", "echo", law(2, torch.Generator()).shape[1], n, 1e-3, _echo(law, scale, n))
    for s in (1 / 3, 0.45, 0.6, 0.7, 0.8):
        add(f"echo: X = -1 or 1, s = {s:.2g}", "echo, two points", 1, 4096, 1e-3, _echo_signs(s))
    return found


def _sizes(function: str, std: float, dimension: int, thorough: bool) -> tuple[int, ...]:
    if thorough:
        return (250, 1000, 4000, 16000) if dimension in (2, 10) else (1000, 4000)
    return (250, 1000, 4000) if (function, std) == ("tanh", 0.3) and dimension in (2, 10) else (1000,)


# rotated layers of D separate neurons: I(X;T) is D times the information of one neuron

FUNCTIONS: dict[str, Callable[[Floats], Floats]] = {
    "linear": lambda x: x,
    "tanh": lambda x: np.tanh(2.0 * x),
    "ReLU": lambda x: np.maximum(x, 0.0),
}


def _neurons(function: str, std: float, dimension: int, n: int) -> Callable[[int], Shown]:
    def show(seed: int) -> Shown:
        x, f, _, truth = rotated_neurons(FUNCTIONS[function], dimension, std, n, _generator("neurons", seed))
        truths = {(INPUT, POPULATION): Truth(truth), (INPUT, POINTS): _of_points(f, std**2, seed)}
        return Shown(Reading("T", f.unsqueeze(0), inputs=x.unsqueeze(0), seeds=(seed,)), truths)

    return show


def _of_points(f: Tensor, variance: float, seed: int) -> Truth:
    """Return the truth for X uniform over these points.

    The Monte Carlo is unbiased for this law, and its error is known.
    """
    found = mixture_information(f, variance, draws=_REFERENCE_DRAWS, population=True, seed=derive("truth", seed))
    return Truth(float(found.information), float(found.stderr))


def _linear_net(dimension: int, n: int) -> Callable[[int], Shown]:
    """Three linear layers in a row, on correlated Gaussian inputs."""

    def show(seed: int) -> Shown:
        generator = _generator("linear", seed)
        inputs = 2 * dimension
        mix = torch.randn(inputs, inputs, dtype=torch.float64, generator=generator) / math.sqrt(inputs)
        task = LinearTask(mix @ mix.T, torch.ones(1, inputs, dtype=torch.float64), 1.0)
        w = torch.eye(inputs, dtype=torch.float64)
        for fan_out in (inputs, inputs, dimension):
            w = torch.randn(fan_out, len(w), dtype=torch.float64, generator=generator) / math.sqrt(len(w)) @ w
        x = torch.randn(n, inputs, dtype=torch.float64, generator=generator) @ mix.T
        f = x @ w.T
        truths = {
            (INPUT, POPULATION): Truth(float(input_information(w, task.covariance, 1.0))),
            (INPUT, POINTS): _of_points(f, 1.0, seed),
        }
        reading = Reading(
            "T", f.unsqueeze(0), affine=lambda: w.unsqueeze(0), inputs=x.unsqueeze(0), seeds=(seed,)
        )  # fmt: skip
        law = LinearGaussian(noise_variance=1.0).bind(task)
        return Shown(reading, truths, known=lambda: law.measure(reading, None)[0][:1])

    return show


def _binary(std: float, n: int) -> Callable[[int], Shown]:
    """X = -1 or 1, and Y = X.

    There are n / 2 points of each value, so the points represent the population exactly.
    """

    def show(seed: int) -> Shown:
        y = torch.randperm(n, generator=_generator("binary", seed)) % 2
        f = (2.0 * y - 1.0).view(1, n, 1).double()
        truth = Truth(discrete_input_information([-1.0, 1.0], std))
        truths = {(what, law): truth for what in (INPUT, LABEL) for law in (POINTS, POPULATION)}
        return Shown(Reading("T", f, inputs=f, seeds=(seed,)), truths, y)

    return show


def _bits(std: float) -> Callable[[int], Shown]:
    """All patterns of 12 bits, with independent noise on each bit.

    The points are the whole population.
    """

    def show(seed: int) -> Shown:
        x, _ = icosahedron()
        truth = Truth(cube_information(12, std, spacing=1.0))
        f = x.double().unsqueeze(0)
        reading = Reading("T", f, inputs=f, seeds=(seed,), population=True)
        return Shown(reading, {(INPUT, law): truth for law in (POINTS, POPULATION)})

    return show


def _quantised() -> Callable[[int], Shown]:
    """The second layer of a 4-bit network on the 12-bit task, with its initial weights.

    Its information is counted.
    """

    def show(seed: int) -> Shown:
        x, y = icosahedron()
        model = MLP(12, [10, 3], 2, bits=4)
        initialise(model, "glorot", [seed])
        layers: list[Tensor] = []
        handle = model.get_submodule("hidden2").register_forward_hook(lambda _m, _i, out: layers.append(out))
        with torch.no_grad():
            model(x)
        handle.remove()
        t = layers[0].detach()
        rows = [tuple(row) for row in t.tolist()]
        truths = {
            (INPUT, POINTS): Truth(_entropy(rows)),
            (LABEL, POINTS): Truth(
                _entropy(rows) + _entropy(y.tolist()) - _entropy(list(zip(rows, y.tolist(), strict=True)))
            ),
        }
        reading = Reading("T", t.unsqueeze(0), inputs=x.unsqueeze(0), seeds=(seed,), population=True)
        return Shown(reading, truths, y)

    return show


def _entropy(symbols: Sequence[object]) -> float:
    """Return the plug-in entropy of symbols.

    It has a sum of its own, because a truth must not come from the code that it judges.
    """
    return -math.fsum(c / len(symbols) * math.log(c / len(symbols)) for c in Counter(symbols).values())


# Echo channels


def _ring(n: int, generator: torch.Generator) -> Tensor:
    """Draw from a ring with a gap: two dependent dimensions, far from a Gaussian."""
    angle = 5.0 * torch.rand(n, dtype=torch.float64, generator=generator)
    radius = 1.0 + 0.15 * torch.randn(n, dtype=torch.float64, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _gaussian(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, 1, dtype=torch.float64, generator=generator)


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, 1, dtype=torch.float64, generator=generator)


Law = Callable[[int, torch.Generator], Tensor]
#: the law of the input, and the scale s = .9155 sigmoid(bias + slope f) as (bias, slope)
ECHO: dict[str, tuple[Law, tuple[float, float]]] = {
    "Gaussian, s = 0.5": (_gaussian, (math.log(0.5 / 0.4155), 0.0)),
    "Gaussian, s = 0.1": (_gaussian, (math.log(0.1 / 0.8155), 0.0)),
    "Gaussian, s(x)": (_gaussian, (0.0, 1.0)),
    "uniform, s = 0.5": (_uniform, (math.log(0.5 / 0.4155), 0.0)),
    "uniform, s(x)": (_uniform, (-1.0, 2.0)),
    "ring with a gap, s = 0.5": (_ring, (math.log(0.5 / 0.4155), 0.0)),
    "ring with a gap, s(x)": (_ring, (-1.0, 1.0)),
}


def _echo(law: Law, scale: tuple[float, float], n: int) -> Callable[[int], Shown]:
    bias, slope = scale

    def show(seed: int) -> Shown:
        x = law(n, _generator("echo", seed)).float()
        # the mean rate over the law, from a sample so large that its error does not matter
        many = law(2_000_000, _generator("law", seed))
        per_row = -(torch.nn.functional.logsigmoid(bias + slope * many) + math.log(_MAX_SCALE)).sum(1)
        truth = Truth(float(per_row.mean()), float(per_row.std()) / math.sqrt(len(many)))
        given = -(torch.nn.functional.logsigmoid(bias + slope * x.double()) + math.log(_MAX_SCALE)).sum(1)
        own = Truth(float(given.mean()))
        return _shown_echo(x, bias, slope, seed, {(INPUT, POPULATION): truth, (INPUT, POINTS): own})

    return show


def _echo_signs(s: float) -> Callable[[int], Shown]:
    """X = -1 or 1, where I = min(-ln s, ln 2).

    The threshold at s = 1/2 was found by iterating the density of the noise.
    """

    def show(seed: int) -> Shown:
        x = (torch.randperm(4096, generator=_generator("signs", seed)) % 2 * 2.0 - 1.0).unsqueeze(1)
        truth = Truth(min(-math.log(s), math.log(2.0)))
        truths = {(INPUT, law): truth for law in (POINTS, POPULATION)}
        return _shown_echo(x, math.log(s / (_MAX_SCALE - s)), 0.0, seed, truths)

    return show


_MAX_SCALE = 0.9155


def _shown_echo(
    x: Tensor, bias: float, slope: float, seed: int, truths: Mapping[tuple[str, str], Truth]
) -> Shown:  # fmt: skip
    width = x.shape[1]
    model = insert_echo(nn.Sequential(nn.Identity()), ["0"], x[:2], max_scale=_MAX_SCALE)
    echo = model.get_submodule("0.echo")
    assert isinstance(echo, Echo)
    assert echo.head is not None
    with torch.no_grad():
        echo.head.bias.fill_(bias)
        echo.head.weight.copy_(slope * torch.eye(width))
    passes = Passes(model, x, ["0.echo"])
    with passes.observe(Streams([derive("shown", seed)])) as seen:
        draws = seen.draw("0.echo", _REPLICATES)
        rates = rates_of(passes, seen, "0.echo", 0, certificates_of(passes, seen, [0], True))
    reading = Reading(
        "Z",
        seen.codes["0.echo"],
        clean=seen.clean["0.echo"],
        draw=lambda k: draws[:k],
        noise=seen.noise("0.echo"),
        inputs=x.unsqueeze(0),
        seeds=(seed,),
    )
    return Shown(reading, truths, known=lambda: rates)


#: The number of draws per input that an estimator may ask for.
_REPLICATES = 64


def _generator(*words: object) -> torch.Generator:
    return torch.Generator().manual_seed(derive("calibration", *words))
