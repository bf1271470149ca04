"""Echo taps: a noisy side branch of a layer whose information is known exactly, while the network stays as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..channels.bank import Bank
from ..channels.certificate import Certificate, certify
from ..channels.echo import apply_scale
from ..channels.evidence import CELLS, Evidence
from ..channels.layer import Echo
from ..errors import InfoplaneError, choose
from ..nn.replicas import ReplicaLinear
from ..records import POINTS, Estimate, Path
from ..streams import Streams, derive
from .fitting import floored, with_unseen
from .inputs import Classes, is_count, is_positive, number, read_labels, read_points
from .protocol import About, Estimator, Reading, Tables
from .views import PATH_WARNINGS

__all__ = ["OBJECTIVES", "Tap", "TapFit", "fit_taps"]

OBJECTIVES = ("label", "reconstruction")

#: A direction is kept if its variance is more than this share of the widest one's, and more than
#: rounding makes.
_NEGLIGIBLE = 1e-6
#: The share of the steps at the full step size; it then falls to 0 in a straight line.
_FULL = 0.75
_LARGEST_GRADIENT = 1.0
#: By how many nats the objective may still fall from one tenth of the steps to the next (beyond so
#: many standard errors of it), and the rate move: at a small beta the objective hardly sees it.
_SETTLED, _SIGMAS, _MOVED = 0.02, 3.0, 0.1
#: Noisy draws a point for the cross-entropy and the distortion, and of all points: few points have
#: more draws each.
_DRAWS, _ALL_DRAWS = 2, 4096


@dataclass(frozen=True, slots=True)
class TapFit:
    """One side branch, fitted and then measured with its weights frozen.

    replica, beta: which one it is. directions: those of the layer that it was given; units: K, of its code.
    rate: the certificate of I(Z;X), nats; None if the fit diverged, and then the other numbers are NaN.
    cross_entropy: of the labels given single noisy draws of z, n in all, the decoder mixed with a share 1/n of the
        shares of the classes, nats; and its standard error over the noise, with what rare errors that the draws do not
        show may be worth (`fitting.with_unseen`) (label);
    distortion: the squared error of the layer's whitened directions given z, summed over them, in units of the variance
        of one, and its standard error (reconstruction); NaN under the other objective.
    improved, moved: by how much the objective fell, and the rate moved, over the last tenth of the steps at the full
        step size, from the tenth before, nats.
    settled: by no more than 0.02 (and 3 standard errors of it) and 0.1.
    """

    replica: int
    beta: float
    directions: int
    units: int
    rate: Certificate | None
    cross_entropy: float
    cross_entropy_stderr: float
    distortion: float
    distortion_stderr: float
    improved: float
    moved: float
    settled: bool


def fit_taps(
    codes: Tensor,
    labels: Tensor | None = None,
    *,
    betas: Sequence[float],
    objective: str = "label",
    units: int = 3,
    hidden: int = 16,
    max_scale: float = 0.98,
    echoes: int = 128,
    steps: int = 1000,
    lr: float = 5e-2,
    batch: int = 256,
    seeds: Sequence[int] | None = None,
) -> list[TapFit]:
    """Fit an Echo side branch to frozen codes for every beta, and measure I(Z;X) of each.

        z = f + S(f) e,    f = A t + b,    t the whitened codes,

    with e an echo (`channels.echo`) and S diagonal: I(Z;X) = R = -E log |det S| where the certificate says so. R does
    not see f, so A, b and S are learned with a decoder, linear plus `hidden` tanh units, that reads z:

        label:            cross-entropy of the labels + beta R
        reconstruction:   squared error of t, summed over its directions, + beta R

    For Gaussian t the optimum of the latter is reverse water-filling at theta = beta / 2: R = -d/2 log theta and
    distortion d theta. With constant scales a linear decoder (hidden=0) gives the same for every law: then the curve
    shows the number of directions d and nothing else of the layer.

    codes: (N, D), or (R, N, D) for R replicas; they are never changed, nor is what they came from. labels: (N,) or
    (R, N). betas: nats (label) or squared error (reconstruction) per nat of rate.
    units: the most coordinates of z. t holds the principal directions of the codes, each scaled to variance 1, without
    those of negligible variance (1e-6 of the widest); for a reconstruction only the `units` widest. Of up to three
    coordinates a certificate sees all combinations; of more it may have to leave some unchecked, and takes seconds.
    max_scale, echoes: see `channels.layer.Echo`; the rate is at least -log(max_scale) per coordinate.
    steps, lr, batch: of Adam, from scratch; the step size falls to 0 over the last quarter, the gradient of each branch
    is clipped at norm 1.
    seeds: one a replica; the fit of a replica and beta depends on no other.

    Returns the fits of the first replica, in the order of betas, then those of the next.
    Raises InfoplaneError for other shapes or types, values that are not finite, fewer than 2 points, missing labels.

    Brekelmans, Moyer, Galstyan & Ver Steeg, Exact rate-distortion in autoencoders via Echo noise (2019).
    """
    tap = Tap(
        choose(objective, OBJECTIVES, "objective of a tap"),  # type: ignore[arg-type]
        tuple(betas),
        units=units,
        hidden=hidden,
        max_scale=max_scale,
        echoes=echoes,
        steps=steps,
        lr=lr,
        batch=batch,
    )
    points = read_points("fit_taps", codes)
    return _fit("fit_taps", tap, points, labels, list(range(len(points))) if seeds is None else list(seeds))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split("/"))


@dataclass(frozen=True)
class Tap(Estimator):
    """`fit_taps` for the Recorder: every layer with a side branch for each beta, refitted at each snapshot.

    The numbers are of the tap's own code: what a bottleneck of this form, learned by this objective, lets through of
    the layer. They are not I(X;T), and no data-processing order holds from layer to layer. With hard labels the optimum
    of cross-entropy + beta R is R = H(Y) and cross-entropy 0 at every layer for a strong decoder and beta < 1, so use
    a small one (hidden=0 is softmax regression) and read R beside the cross-entropy over several betas.

    objective, betas, units, hidden, max_scale, echoes, steps, lr, batch: see `fit_taps`.
    layers: the names of those that are tapped; none for all.
    """

    objective: Literal["label", "reconstruction"] = "label"
    betas: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    units: int = 3
    hidden: int = 16
    max_scale: float = 0.98
    echoes: int = 128
    steps: int = 1000
    lr: float = 5e-2
    batch: int = 256
    layers: tuple[str, ...] = field(default=(), metadata={"read": _names, "is": "names separated by slashes"})

    name = "tap"
    about = About(
        quantity="I(Z;X), I(Z;Y) of the tap's code Z",
        standing="exact where the certificate of the tap passes, else upper; I(Z;Y) lower and upper",
        conditions="of the tap's own code, learned by its objective, not of the layer: no data-processing order from "
        "layer to layer; a strong decoder of hard labels reads H(Y) everywhere for beta < 1; where noise lies below, "
        "of the mean path",
        cost="steps x batch x betas x (units^2 + units D), and a certificate for each beta",
        source="Brekelmans, Moyer, Galstyan & Ver Steeg 2019",
    )

    def __post_init__(self) -> None:
        choose(self.objective, OBJECTIVES, "objective of a tap")
        betas = self.betas
        _expect(bool(betas) and all(is_positive(b) for b in betas), "betas", betas, "finite numbers above 0")
        _expect(len({number(b) for b in betas}) == len(betas), "betas", betas, "different numbers")
        _expect(is_count(self.units, 1), "units", self.units, "a whole number of at least 1")
        _expect(is_count(self.hidden, 0), "hidden", self.hidden, "a whole number of at least 0")
        _expect(
            is_positive(self.max_scale) and self.max_scale < 1, "max_scale", self.max_scale, "a number between 0 and 1"
        )
        power_of_two = is_count(self.echoes, 1) and not self.echoes & (self.echoes - 1)
        _expect(power_of_two, "echoes", self.echoes, "a power of two")
        _expect(is_count(self.steps, 20), "steps", self.steps, "a whole number of at least 20")
        _expect(is_positive(self.lr), "lr", self.lr, "a finite number above 0")
        _expect(is_count(self.batch, 2), "batch", self.batch, "a whole number of at least 2")

    def params(self, beta: float) -> str:
        """Of the numbers at that beta: every option that changes them."""
        words = f"objective={self.objective},beta={number(beta)},units={self.units},hidden={self.hidden}"
        words += f",max_scale={number(self.max_scale)},echoes={self.echoes}"
        return words + f",steps={self.steps},lr={number(self.lr)},batch={self.batch}"

    def fit(self, reading: Reading, labels: Tensor | None) -> list[list[TapFit]]:
        """The side branches of each replica of a layer, in the order of betas; of the mean path where it is noisy."""
        if self.layers and reading.layer not in self.layers:
            return [[] for _ in reading.codes]
        where = f"Tap, layer {reading.layer!r}"
        points = read_points(where, reading.codes if reading.clean is None else reading.clean)
        fits = _fit(where, self, points, labels, [derive("tap", seed, reading.layer) for seed in reading.seed_of])
        many = len(self.betas)
        return [fits[r * many : (r + 1) * many] for r in range(len(points))]

    def estimates(self, reading: Reading, labels: Tensor | None, fits: list[list[TapFit]]) -> list[list[Estimate]]:
        """I(Z;X) of each fit, as its certificate has it, and for the objective `label` H(Y) - CE <= I(Z;Y) <=
        min(H(Y), I(Z;X)); of each replica, nats."""
        entropies = [math.nan] * len(fits)
        if self.objective == "label" and labels is not None:
            entropies = read_labels("Tap", labels, reading.codes).entropy().tolist()
        return [
            [row for fit in of_one for row in self._rows(reading, fit, entropy)]
            for of_one, entropy in zip(fits, entropies, strict=True)
        ]

    def table(self, fits: list[list[TapFit]]) -> list[list[dict[str, object]]]:
        """What is known of each fit beside its estimates: for each replica, rows for a table of the taps."""
        return [
            [
                {
                    "estimator": self.name,
                    "params": self.params(fit.beta),
                    "objective": self.objective,
                    "beta": fit.beta,
                    "directions": fit.directions,
                    "units": fit.units,
                    "cross_entropy_nats": fit.cross_entropy,
                    "cross_entropy_stderr_nats": fit.cross_entropy_stderr,
                    "distortion": fit.distortion,
                    "distortion_stderr": fit.distortion_stderr,
                    "improved_nats": fit.improved,
                    "moved_nats": fit.moved,
                    "settled": fit.settled,
                }
                | ({} if fit.rate is None else fit.rate.row())
                for fit in of_one
            ]
            for of_one in fits
        ]

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """`estimates` of `fit`: I(Z;X) and, for the objective `label`, bounds on I(Z;Y) for each beta; nats."""
        return self.measure_with_tables(reading, labels)[0]

    def measure_with_tables(self, reading: Reading, labels: Tensor | None) -> tuple[list[list[Estimate]], Tables]:
        """Fit the side branches once, and give their numbers and what else is known of each fit.

        Args:
            reading: What the layer gave for the inputs of the probe.
            labels: Classes as integers, of shape (N,) or (R, N); None if there are none.

        Returns:
            `estimates` of the fits, and under "taps" the rows of `table`.
        """
        fits = self.fit(reading, labels)
        return self.estimates(reading, labels, fits), {"taps": self.table(fits)}

    def _rows(self, reading: Reading, fit: TapFit, entropy: float) -> list[Estimate]:
        path: Path = "" if reading.clean is None else "noise-off"
        off = PATH_WARNINGS[path]
        slow = () if fit.settled else ("untrained",)
        n = reading.codes.shape[-2]
        information = Estimate(
            quantity="I(Z;X)",
            value=math.nan,
            standing="estimate",
            channel="echo tap",
            estimator=self.name,
            params=self.params(fit.beta),
            path=path,
            n=n,
            ceiling=math.log(n),
            warnings=("tap", *off, *slow),
        )
        seen = fit.rate
        if seen is not None:
            information = replace(
                information,
                value=seen.value,
                standing=seen.standing,
                law=f"{POINTS}, at 1/{CELLS} of the range" if seen.standing == "exact" else POINTS,
                stderr=seen.stderr,
                error=seen.error,
                warnings=("tap", *off, *seen.warnings, *slow),
            )
        if self.objective != "label":
            return [information]
        lower = replace(
            information,
            quantity="I(Z;Y)",
            value=entropy - fit.cross_entropy,
            standing="estimate" if seen is None else "lower",
            side="lower",
            law=POINTS,
            stderr=fit.cross_entropy_stderr,
            error=math.nan,
            ceiling=entropy,
            warnings=("tap", *off, *slow),
        )
        bounded = seen is not None and seen.standing != "estimate"
        most = min(entropy, information.value + information.error) if bounded else entropy
        return [information, lower, replace(lower, value=most, side="upper", standing="upper", stderr=0.0)]


def _expect(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise InfoplaneError(f"Tap: {name}={value!r}; expected {expected}.")


class _Trend(NamedTuple):
    """`improved`, `moved` and `settled` of TapFit, of each branch."""

    improved: list[float]
    moved: list[float]
    settled: list[bool]


class _Branches(nn.Module):
    """The side branches of R replicas beside each other, branch r B + j that of replica r and beta j:
    z = Echo(A t + b), and a decoder of z.

    They start as the first directions of t, with the decoder at 0 but for what its tanh units look at.
    """

    def __init__(self, tap: Tap, inputs: int, units: int, outputs: int, echoes: int, seeds: Sequence[int]) -> None:
        super().__init__()
        replicas, self.betas = len(seeds), len(tap.betas)
        many = replicas * self.betas
        self.encoder = ReplicaLinear(inputs, self.betas * units, replicas)
        self.echo = Echo(units, max_scale=tap.max_scale, echoes=echoes, shuffle=False, bias=-2.0, replicas=many)
        self.straight = ReplicaLinear(units, outputs, many)
        self.bent = ReplicaLinear(units, tap.hidden, many)
        self.joined = ReplicaLinear(tap.hidden, outputs, many)
        with torch.no_grad():
            self.encoder.weight.copy_(torch.eye(units, inputs).repeat(self.betas, 1))
            for weights, seed in zip(self.bent.weight.split(self.betas), seeds, strict=True):
                generator = torch.Generator().manual_seed(derive("weights", seed))
                weights.copy_(torch.randn(weights.shape[1:], generator=generator) / math.sqrt(units))

    def encode(self, t: Tensor) -> Tensor:
        """(R B, N, K) of (R, N, d)."""
        f: Tensor = self.encoder(t).unflatten(-1, (self.betas, -1)).transpose(1, 2).flatten(0, 1)
        return f

    def decode(self, z: Tensor) -> Tensor:
        out: Tensor = self.straight(z) + self.joined(torch.tanh(self.bent(z)))
        return out


def _fit(where: str, tap: Tap, points: Tensor, labels: Tensor | None, seeds: list[int]) -> list[TapFit]:
    replicas, n, _ = points.shape
    if n < 2:
        raise InfoplaneError(f"{where}: the layer has {n} point; expected at least 2.")
    if len(seeds) != replicas:
        raise InfoplaneError(f"{where}: {len(seeds)} seeds for {replicas} replicas; expected one for each.")
    classes = None
    if tap.objective == "label":
        if labels is None:
            raise InfoplaneError(f"{where}: there are no labels; expected some, or objective='reconstruction'.")
        classes = read_labels(where, labels, points)
    most = tap.units if tap.objective == "reconstruction" else None
    firsts = [_first_of_equals(t) for t in points]
    whitened = [_whitened(t)[same, :most] for t, same in zip(points, firsts, strict=True)]
    # Replicas with equally many directions have side branches of one shape, which are fitted
    # together.
    fits: dict[int, list[TapFit]] = {}
    device = points.device
    # whatever the caller has switched off or cast in this thread
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        for size in sorted({t.shape[1] for t in whitened}):
            group = [r for r, t in enumerate(whitened) if t.shape[1] == size]
            chosen = None if classes is None else Classes(classes.ids[group], classes.size)
            t, first = (torch.stack([of[r] for r in group]) for of in (whitened, firsts))
            fits |= zip(group, _fit_alike(tap, t, first, chosen, group, [seeds[r] for r in group]), strict=True)
    return [fit for r in range(replicas) for fit in fits[r]]


def _first_of_equals(t: Tensor) -> Tensor:
    """(N,): for each row of (N, D), which is the first that equals it."""
    _, back = torch.unique(t, dim=0, return_inverse=True)
    rows = torch.arange(len(t), device=t.device)
    return torch.full_like(rows, len(t)).scatter_reduce(0, back, rows, "amin")[back]


def _whitened(t: Tensor) -> Tensor:
    """(N, d) float32 of (N, D): principal coordinates of variance 1, the widest first; of a constant layer one zero,
    which makes a code that its certificate finds void."""
    rounding = torch.finfo(t.dtype).eps
    t = t.double()
    centred = t / t.abs().amax().clamp(min=1e-300)
    centred = centred - centred.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(t))
    values, vectors = values.flip(0), vectors.flip(1)
    kept = values > max(_NEGLIGIBLE * float(values[0]), (4 * rounding) ** 2)
    if not bool(kept.any()):
        return torch.zeros_like(t[:, :1], dtype=torch.float32)
    white: Tensor = centred @ (vectors[:, kept] / values[kept].sqrt())
    return white.float()


def _fit_alike(
    tap: Tap, t: Tensor, first: Tensor, classes: Classes | None, replicas: list[int], seeds: list[int]
) -> list[list[TapFit]]:
    """The fits of replicas (R, N, d), all betas of all of them at once."""
    n, size = t.shape[1:]
    units = min(size, tap.units)
    many = len(tap.betas)
    rows = min(tap.batch, n)
    echoes = min(tap.echoes, 1 << ((rows - 1).bit_length() - 1))  # a row hears so many others
    # the same draws at every beta, so that what differs is beta
    streams = [Streams([derive(word, s) for s in seeds for _ in range(many)], t.device) for word in ("echo", "draw")]
    outputs = size if classes is None else classes.size
    branches = _Branches(tap, size, units, outputs, echoes, seeds).to(t.device)
    branches.echo.streams = streams[0]
    orders = Streams([derive("order", s) for s in seeds], t.device)
    trend = _train(tap, branches, t, classes, rows, orders)
    with torch.no_grad():
        return _measure(tap, branches, t, first, classes, replicas, streams[1], trend)


def _train(tap: Tap, branches: _Branches, t: Tensor, classes: Classes | None, rows: int, orders: Streams) -> _Trend:
    """Adam on all branches side by side."""
    replicas, n, _ = t.shape
    many = len(tap.betas)
    beta = torch.tensor(tap.betas, device=t.device).repeat(replicas)
    parameters = [p for p in branches.parameters() if p.numel()]
    optimizer = torch.optim.Adam(parameters, lr=tap.lr, fused=True)
    full, tenth = int(_FULL * tap.steps), tap.steps // 10
    losses: list[Tensor] = []
    rates: list[Tensor] = []
    order = t.new_zeros(0)
    for step in range(tap.steps):
        at = step % (n // rows)
        if at == 0:
            order = orders.permutations(n)
        chosen = order[:, at * rows : (at + 1) * rows]
        batch = torch.take_along_dim(t, chosen.unsqueeze(-1), 1)
        optimizer.param_groups[0]["lr"] = tap.lr * min(1.0, (tap.steps - step) / (tap.steps - full))
        with torch.enable_grad():
            out = branches.decode(branches.echo(branches.encode(batch)))
            if classes is None:
                error = (out - batch.repeat_interleave(many, 0)).square().sum(-1)
            else:
                ids = classes.ids.gather(1, chosen).repeat_interleave(many, 0)
                error = cross_entropy(out.flatten(0, 1), ids.flatten(), reduction="none").view(ids.shape)
            rate = torch.atleast_1d(branches.echo.rate)
            loss = error.mean(1) + beta * rate
            optimizer.zero_grad()
            loss.sum().backward()
        _clip(parameters, len(beta))
        optimizer.step()
        losses.append(loss.detach())
        rates.append(rate.detach())
    late = slice(full - 2 * tenth, full)
    objective, rate = torch.stack(losses[late]).double().cpu(), torch.stack(rates[late]).double().cpu()
    if classes is None:  # a squared error in nats: the rate that it is worth
        objective = objective / beta.double().cpu()
    before, after = objective[:tenth], objective[tenth:]
    fell = before.mean(0) - after.mean(0)
    moved = (rate[:tenth].mean(0) - rate[tenth:].mean(0)).abs()
    spread = ((before.var(0) + after.var(0)) / tenth).sqrt()
    settled = (fell <= _SETTLED + _SIGMAS * spread) & (moved <= _MOVED)
    return _Trend(fell.tolist(), moved.tolist(), settled.tolist())


def _clip(parameters: Sequence[Tensor], branches: int) -> None:
    """The gradient of each branch at the largest norm, so that none depends on another."""
    gradients = [p.grad.view(branches, -1) for p in parameters if p.grad is not None]
    norm = torch.stack([g.square().sum(1) for g in gradients]).sum(0).sqrt()
    share = (_LARGEST_GRADIENT / norm.clamp(min=1e-30)).clamp(max=1.0)
    for g in gradients:
        g.mul_(share.unsqueeze(1))


def _measure(
    tap: Tap,
    branches: _Branches,
    t: Tensor,
    first: Tensor,
    classes: Classes | None,
    replicas: list[int],
    streams: Streams,
    trend: _Trend,
) -> list[list[TapFit]]:
    """With weights frozen, and the echoes drawn from the codes of the probe itself: its law is theirs."""
    n, many = t.shape[1], len(tap.betas)
    # A product of matrices may give equal rows results that differ in the last digit, and distinct
    # codes are counted.
    same = first.repeat_interleave(many, 0).unsqueeze(-1)
    f = torch.take_along_dim(branches.encode(t), same, 1)
    log_s = torch.take_along_dim(branches.echo.scales(f)[0], same, 1)
    s = log_s.exp()
    bank = Bank(f, s)
    k = max(_DRAWS, -(-_ALL_DRAWS // n))
    draws = [f + apply_scale(s, e) for e in bank.noise(k * n, streams).split(n, 1)]
    error, stderr = _errors(branches, draws, t, classes, many)
    fits: list[list[TapFit]] = [[] for _ in replicas]
    for c in range(len(f)):
        fine = math.isfinite(error[c])
        seen = Evidence(
            f=f[c],
            log_s=log_s[c],
            z=draws[0][c],
            bank=bank,
            replica=c,
            first=True,
            repeat=None,
            same_law=True,
            diagonal=True,
            floor=branches.echo.floor,
        )
        none = (math.nan, math.nan)
        known = (error[c], stderr[c]) if fine else none
        ce, distortion = (none, known) if classes is None else (known, none)
        fits[c // many].append(
            TapFit(
                replica=replicas[c // many],
                beta=tap.betas[c % many],
                directions=t.shape[2],
                units=f.shape[2],
                rate=certify(seen) if fine else None,
                cross_entropy=ce[0],
                cross_entropy_stderr=ce[1],
                distortion=distortion[0],
                distortion_stderr=distortion[1],
                improved=trend.improved[c],
                moved=trend.moved[c],
                settled=fine and trend.settled[c],
            )
        )
    return fits


def _errors(
    branches: _Branches, draws: list[Tensor], t: Tensor, classes: Classes | None, many: int
) -> tuple[list[float], list[float]]:
    """The cross-entropy of the labels, or the squared error of t without any, and its standard error, of each branch.

    draws: k tensors (R B, N, K) of noisy codes. t: (R, N, d). many: B, the branches of a replica.
    """
    n, k = t.shape[1], len(draws)
    if classes is None:
        target = t.repeat_interleave(many, 0)
        squares = [(branches.decode(z) - target).square().sum(-1).double() for z in draws]
        terms = torch.stack(squares, 1)  # (R B, k, N)
        mean, spread = terms.mean((1, 2)), _spread(terms)
    else:
        ids = classes.ids.repeat_interleave(many, 0)
        scores = [branches.decode(z).double().flatten(0, 1) for z in draws]
        entropies = [cross_entropy(each, ids.flatten(), reduction="none").view(ids.shape) for each in scores]
        surprise = -classes.log_shares().repeat_interleave(many, 0).unsqueeze(1)
        terms = torch.stack(entropies, 1)
        terms = surprise - floored((surprise - terms).flatten(1)).view_as(terms)
        mean = terms.mean((1, 2))
        spread = with_unseen(_spread(terms), surprise.mean((1, 2)) - mean + math.log(n * k), n * k)
    return mean.tolist(), spread.tolist()


def _spread(terms: Tensor) -> Tensor:
    """(B,): the standard error of the mean of terms (B, k, N), of which only the noise is random: the points are the
    law."""
    return (terms.var(1).mean(1) / (terms.shape[1] * terms.shape[2])).sqrt()
