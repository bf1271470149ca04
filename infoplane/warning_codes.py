"""The registry of the warnings that a number can carry, and the limits behind them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IMPOSSIBLE", "LIMITS", "WARNINGS", "Warned"]

#: What the certificate of an exact rate asks of each of its values, by column: `seen` is the share seen_nats /
#: value_nats, of which 0.01 nats more may be missing; bank_shift is in standard deviations for a first Echo layer,
#: whose codes must be the same, and in standard errors for one above; coordinates is how many can be searched; void is
#: in units of the coordinate's RMS, as near as float32 can tell; collapsed_nats is per coordinate, above the floor.
LIMITS = {
    "margin": 0.6,
    "coordinates": 64.0,
    "seen": 0.98,
    "unseen_nats": 0.01,
    "void": 2.5e-7,
    "collapsed_nats": 0.02,
    "smallest_eigenvalue": 1e-6,
    "aligned": 1.0,
    "tail_nats": 1e-3,
    "references": 4096.0,
    "bank_shift": 1e-4,
    "bank_shift_above": 5.0,
    "repeat": 1e-4,
}


@dataclass(frozen=True, slots=True)
class Warned:
    """One entry of the registry of warnings: what the code means, when it is raised and what to do about it."""

    meaning: str
    threshold: str
    remedy: str


#: Every warning a number can carry. Tables, plots and the README read this registry.
WARNINGS: dict[str, Warned] = {
    # binning
    "mostly-unique": Warned(
        "most rows have a cell of their own, so H(Tq) is near ln N whatever the layer does and I(T;Y) near H(Y)",
        "occupied cells / N > 0.5",
        "wider bins, or more points",
    ),
    "sparse-cells": Warned(
        "few points a cell: the plug-in entropy is biased where the points are a sample",
        "N / occupied cells < 5",
        "wider bins, or more points",
    ),
    "outlier-range": Warned(
        "a few outliers set the range of the bins, so nearly all values share a few bins",
        "range > 3 x the 99.9th percentile of |value - median|",
        "range='unit', equal-count bins, or a fixed width",
    ),
    "clipped": Warned(
        "values outside the fixed range were put in the end bins", "any", "a range that holds all values"
    ),
    "moving-range": Warned(
        "the bins follow the layer's range of this snapshot: values of different epochs are not comparable",
        "range scope 'layer' or 'unit', or equal-count bins",
        "a fixed width, a fixed range, or range='run'",
    ),
    # kernel density
    "self-weight": Warned(
        "the kernel of a point is mostly itself: the value says how many points there are, not what the layer holds",
        "mean of 1 / sum_j exp(-d_ij / 2 s2) > 0.2",
        "a larger noise variance, scaled with the layer's RMS, or more points",
    ),
    "at-ceiling": Warned(
        "both bounds are at ln N: the bracket carries no information about the layer",
        "both bounds within 1 % of ln N",
        "a larger noise variance, scaled with the layer's RMS",
    ),
    # mixture Monte Carlo
    "thin-mixture": Warned(
        "some points have too few neighbours within the noise: I(X;T) is biased down, towards ln N, and I(T;Y) up, "
        "towards H(Y)",
        "more than 1 % of the points with sum_j exp(-d_ij / 2 s2) < 5, where the points are a sample",
        "more points, or a larger noise variance",
    ),
    "empty-mixture": Warned(
        "most points have no neighbours within the noise: the value says how many points there are, and its interval "
        "would be of nothing, so there is none",
        "most points with sum_j exp(-d_ij / 2 s2) < 5, where the points are a sample",
        "more points, a larger noise variance, or fewer units",
    ),
    "no-density": Warned(
        "the noise of the layer has no known density (Echo), or noise lies below it: the estimator has nothing to "
        "work with, and its value is NaN",
        "any such layer",
        "read the exact rate; or ksg, infonce, binning with replicates",
    ),
    # nearest neighbours
    "ties": Warned(
        "points repeat, and nearest-neighbour distances of 0 mean nothing",
        "a k-th distance of 0",
        "another estimator: kde, mixture or counting",
    ),
    "high-dimension": Warned(
        "nearest neighbours are far away in many dimensions: the value is biased down",
        "more than 5 units in what is sent or received",
        "fewer units, or another estimator",
    ),
    "sample-bias": Warned(
        "the value would rise with more points: it is biased down, by 10 % or more",
        "ksg: above its value with 4 times as many neighbours by 2 standard errors, and by extrapolation with "
        "(k / N)^(2 / units) low by 14 % of itself; ross: above the mean of those of two halves of the points by 3 % "
        "and by a standard error",
        "more points, fewer units, or another estimator",
    ),
    "saturated": Warned(
        "the value is near the most that so many points can show: it grows with ln N, whatever the truth is",
        "value > psi(N) - psi(k) - 1",
        "more points, or another estimator",
    ),
    # matrix Renyi
    "kernel-width": Warned(
        "the value is not Shannon's information, and its scale is set by the width of the kernel",
        "any matrix Renyi value",
        "compare values of one width only, and with the permuted null",
    ),
    "at-null": Warned(
        "the value is no larger than with the points permuted, which holds nothing",
        "value < mean + 2 standard deviations of the permuted values",
        "another kernel width, or more points",
    ),
    # variational
    "at-log-k": Warned(
        "the bound is near ln K, which it cannot exceed: the truth may be far above",
        "value > ln K - 1 nat",
        "a larger K, if there are as many held-out points",
    ),
    "heavy-tail": Warned(
        "a few held-out pairs make most of the average of exponentials: the value, and its error, rest on them",
        "the largest 1 % of the terms hold more than half of their sum",
        "infonce, or more points",
    ),
    "not-a-bound": Warned(
        "neither an upper nor a lower bound: smile clips its terms, and is low where the critic has not learned all "
        "there is; kde-upper takes upper bounds from an upper bound, and may err either way",
        "any value of smile, and I(T;Y) of kde-upper",
        "infonce or nwj; the bracket of kde",
    ),
    "untrained": Warned(
        "the fit had not settled when its steps were used up",
        "the last tenth of the steps improved the held-out (or fitted) objective by more than 0.02 nats; of a tap: the "
        "last tenth at the full step size, also if its rate moved by more than 0.1 nats",
        "more steps",
    ),
    # counting
    "not-quantised": Warned(
        "nearly every point has values of its own, so counting says how many points there are",
        "distinct rows / N > 0.5, and some unit's values neither repeat nor lie on a grid of at most 2^16 levels",
        "a quantised network (--bits), or binning",
    ),
    "few-counts": Warned(
        "too few points a symbol for the correction to be relied on",
        "N / distinct symbols < 2",
        "more points, or fewer symbols",
    ),
    # taps
    "tap": Warned(
        "the information of the tap's own code, learned by its objective; not of the layer, and no data-processing "
        "order holds from layer to layer",
        "any tap",
        "read it beside the tap's cross-entropy or distortion",
    ),
    # one number beside another
    "data-processing": Warned(
        "more than the layer below holds, which no function of that layer can: noise or bins of each layer alone are "
        "no chain, and here it shows; or more of the label than of the input",
        "value > that of the layer below, or of the input, through the same channel + 4 standard errors (3 between two "
        "estimates) + 0.001 nats (between exact numbers their errors and 1e-9 of them)",
        "read it as geometry; beside the input, ask for a standard error, or for more points",
    ),
    "over-ceiling": Warned(
        "the value is above what the quantity can be: the estimator errs",
        "value > ceiling + 4 standard errors + error + 0.001 nats",
        "another estimator, or more points",
    ),
    "negative": Warned(
        "the value is below 0, which no information is: the estimator errs, or there is nothing to find",
        "value + 4 standard errors + error + 0.001 nats < 0, of anything but a lower bound",
        "another estimator, or more points",
    ),
    # what kind of codes were measured
    "noise-off": Warned(
        "noise lies below this layer; the number is of the mean path, with the noise switched off",
        "any layer at or above a noisy one",
        "read it as geometry; or ask for replicates",
    ),
    "replicate-bias": Warned(
        "what is known of T given x comes from a few noisy replicates of each input, so I(X;T) is biased up",
        "any finite number of replicates",
        "more replicates",
    ),
    "sampled-codes": Warned(
        "noise lies below this layer; the number is of one noisy draw a point, a sample of the noisy law",
        "any layer at or above a noisy one",
        "more points",
    ),
    "not-linear": Warned(
        "the layer is no affine function of its input, or noise lies below it: there is no closed form",
        "max |T - W x - b| of a unit > 1e-6 of its standard deviation on the probe",
        "activation linear and no Echo layer below, or another estimator",
    ),
    "non-finite": Warned("the layer held NaN or infinite values; nothing was measured", "any", "a smaller step"),
    # echo
    "above-ceiling": Warned(
        "the rate is more than some set of coordinates can hold: the information is what the ceiling says",
        "rate > ceiling of a subset of coordinates",
        "a larger beta, or more points",
    ),
    "near-ceiling": Warned(
        "the rate is close to a ceiling, where I = R needs ever finer digits of z: an upper bound only",
        "rate > 0.6 of the ceiling of a subset of coordinates",
        "a larger beta, or more points",
    ),
    "resolution": Warned(
        "part of the rate sits in digits finer than 1/1000 of the range of z: clustered codes, tiny scales",
        "in 1000 cells a coordinate: rate > 0.6 of a subset's ceiling, or under 98 % of it (- 0.01 nats) is seen; or z "
        "is handed on with digits coarser than a cell (a half-precision model)",
        "a larger beta; for a half-precision model, autocast",
    ),
    "unchecked-subsets": Warned(
        "too many subsets, or combinations, of coordinates to check each against its ceiling",
        "1024 subsets of an entropy below the rate / 0.6, or so many coordinates with scales alike within 0.2 nats "
        "that 60000 flats through random points would not find a common value (more than 4 to 8)",
        "a larger beta, scale='input', or fewer coordinates",
    ),
    "wide": Warned(
        "the code has too many coordinates for their combinations to be searched for ceilings: an upper bound only",
        "more than 64 coordinates that are not constant",
        "fewer units; for a feature map, a smaller pool",
    ),
    "dependent": Warned(
        "coordinates of the code are linearly dependent and are counted more than once by the rate",
        "smallest eigenvalue of Cov(z), scaled by E f_i^2, < 1e-6",
        "fewer units",
    ),
    "few-valued": Warned(
        "a linear combination of coordinates takes few values, a ceiling that no coordinate shows",
        "a share of pairs of points on parallel lines (triples on planes) > 20 % (10 %); equal scales: a share of "
        "points on a flat > exp(-R / 0.6), R the rate of what the flat is short of",
        "fewer units",
    ),
    "mixed": Warned(
        "S is not diagonal: any subspace may have a ceiling, and not all can be checked, so the rate is called a bound",
        "mixing 'rotation' or 'full'",
        "mixing='diagonal'",
    ),
    "void": Warned(
        "some coordinates of z are constant (a dead unit); they hold nothing and were dropped from the rate",
        "max |f_i - v (1 - s_i)| <= 2.5e-7 of the coordinate's RMS, for some v",
        "He initialisation with positive biases, or fewer units",
    ),
    "tail": Warned(
        "the echoes were cut off before their tail was negligible",
        "error term > 1e-3 nats",
        "more echoes, or a smaller bound on s",
    ),
    "few-reference": Warned(
        "too few reference codes for a layer above the first",
        "fewer than 4096 independent reference codes",
        "references=4096 or more",
    ),
    "stale-bank": Warned(
        "the reference codes were not made with the present parameters and inputs",
        "a mean of f, f^2 or s off the probe's by 1e-4 standard deviations (first layer) or 5 standard errors (above)",
        "refill the bank with the weights frozen",
    ),
    "batch-dependent": Warned(
        "the codes of an input change with its batch mates or from call to call: the rate is of I(Z;(X,more))",
        "f of one input differs between two passes by more than 1e-4 of its standard deviation, in any coordinate",
        "eval-mode or frozen BatchNorm, no dropout below the layer",
    ),
    "other-law": Warned(
        "echoes come from one law and the inputs from another: I = R + h(z) - h(e), not R",
        "bank filled from other inputs than the probe",
        "let the probe be the law",
    ),
    "collapsed": Warned(
        "the rate sits on the floor -log r a coordinate: the layer has stopped carrying information",
        "rate < floor + 0.02 nats a coordinate",
        "a smaller beta, a longer warm-up",
    ),
    "chain": Warned(
        "no closed form exists for I(Z_k;X) above the first noisy layer: the least of the rates and ceilings so far",
        "any Echo layer above the first",
        "read I(Z_k;Z_k-1) beside it",
    ),
}

#: The warnings of a number that its quantity cannot be.
IMPOSSIBLE = ("data-processing", "over-ceiling", "negative")
