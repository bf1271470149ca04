"""The registry of the warnings that a number can carry, and the limits behind them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IMPOSSIBLE", "LIMITS", "WARNINGS", "Warned"]

#: The limits that the certificate of an exact rate holds its values against, by column.
#: `references` and `smallest_eigenvalue` are lower limits; the others that are not listed here are
#: upper limits.
#:
#: - `coordinates`: the largest number of coordinates whose combinations are searched.
#: - `seen`: the least share seen_nats / value_nats; `unseen_nats` more may be missing.
#: - `void`: in units of the coordinate's RMS, about as near as float32 can tell.
#: - `collapsed_nats`: per coordinate, above the floor.
#: - `bank_shift`: in standard deviations, for a first Echo layer, whose codes must be the same.
#: - `bank_shift_above`: in standard errors, for a layer above noise.
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
    """One entry of the registry of warnings. Every text is a sentence or two.

    Args:
        meaning: What the warning says of the number.
        threshold: When the warning is raised.
        remedy: What to do about it.

    Example:
        >>> import infoplane as ip
        >>> ip.WARNINGS["non-finite"].remedy
        'Train with a smaller learning rate.'
    """

    meaning: str
    threshold: str
    remedy: str


#: Every warning that a number can carry. Tables, plots and `infoplane warnings` read this registry.
WARNINGS: dict[str, Warned] = {
    # binning
    "mostly-unique": Warned(
        "Most points have a cell of their own, so H(Tq) is close to ln N and I(T;Y) is close to H(Y), whatever the "
        "layer does.",
        "The number of occupied cells is more than 0.5 N.",
        "Use wider bins or more points.",
    ),
    "sparse-cells": Warned(
        "There are few points per cell, so the plug-in entropy is biased where the points are a sample.",
        "There are fewer than 5 points per occupied cell.",
        "Use wider bins or more points.",
    ),
    "outlier-range": Warned(
        "A few outliers set the range of the bins, so nearly all values share a few bins.",
        "The range is more than 3 times the 99.9th percentile of |value - median|.",
        "Use range='unit', equal-count bins, or a fixed width.",
    ),
    "clipped": Warned(
        "Values outside the fixed range were put in the end bins.",
        "At least one value is outside the range.",
        "Use a range that holds all values.",
    ),
    "moving-range": Warned(
        "The bins follow the range of the layer in this snapshot, so values of different epochs are not comparable.",
        "The range has scope 'layer' or 'unit', or the bins have equal counts.",
        "Use a fixed width, a fixed range, or range='run'.",
    ),
    # kernel density
    "self-weight": Warned(
        "The kernel sum of a point is mostly the point itself, so the value counts the points and says little about "
        "the layer.",
        "The mean over points of 1 / sum_j exp(-d_ij / 2 s2) is above 0.2, where d_ij is a squared distance and s2 "
        "the noise variance.",
        "Use a larger noise variance, scaled with the layer's RMS, or more points.",
    ),
    "at-ceiling": Warned(
        "Both bounds are at ln N, so the bracket carries no information about the layer.",
        "Both bounds are within 1 % of ln N.",
        "Use a larger noise variance, scaled with the layer's RMS.",
    ),
    # mixture Monte Carlo
    "thin-mixture": Warned(
        "Some points have too few neighbours within the noise, which biases I(X;T) down, towards ln N, and I(T;Y) up, "
        "towards H(Y).",
        "The points are a sample, and more than 1 % of them have sum_j exp(-d_ij / 2 s2) below 5.",
        "Use more points or a larger noise variance.",
    ),
    "empty-mixture": Warned(
        "Most points have no neighbours within the noise, so the value counts the points. It has no interval, because "
        "an interval would mean nothing.",
        "The points are a sample, and most of them have sum_j exp(-d_ij / 2 s2) below 5.",
        "Use more points, a larger noise variance, or fewer units.",
    ),
    "no-density": Warned(
        "The noise of the layer has no known density (Echo), or there is noise below the layer. The estimator cannot "
        "work without a density, and its value is NaN.",
        "Every number of such a layer carries it.",
        "Read the exact rate, or use ksg, infonce, or binning with replicates.",
    ),
    # nearest neighbours
    "ties": Warned(
        "Points repeat, and a distance of 0 to the nearest neighbours has no meaning.",
        "The distance from some point to its k-th neighbour is 0.",
        "Use another estimator: kde, mixture or counting.",
    ),
    "high-dimension": Warned(
        "In many dimensions the nearest neighbours are far away, so the value is biased down.",
        "What is sent or what is received has more than 5 units.",
        "Use fewer units or another estimator.",
    ),
    "sample-bias": Warned(
        "The value would rise with more points: it is biased down by 10 % or more.",
        "For ksg, the value is above the value with 4 times as many neighbours by 2 standard errors, and an "
        "extrapolation with (k / N)^(2 / units) finds it low by 14 % of itself. For ross, it is above the mean of the "
        "values of two halves of the points by 3 % and by a standard error.",
        "Use more points, fewer units, or another estimator.",
    ),
    "saturated": Warned(
        "The value is near the most that this many points can show, so it grows with ln N whatever the truth is.",
        "The value is above psi(N) - psi(k) - 1 nats, where psi is the digamma function.",
        "Use more points or another estimator.",
    ),
    # matrix Renyi
    "kernel-width": Warned(
        "The value is not Shannon's information, and the width of the kernel sets its scale.",
        "Every value of the matrix Renyi estimator carries it.",
        "Compare only values of the same width, and compare them with the permuted null.",
    ),
    "at-null": Warned(
        "The value is no larger than it is with the points permuted, where there is no information.",
        "The value is below the mean plus 2 standard deviations of the permuted values.",
        "Use another kernel width or more points.",
    ),
    # variational
    "at-log-k": Warned(
        "The bound is near ln K, which it cannot exceed, so the truth may be far above it.",
        "The value is above ln K - 1 nat.",
        "Use a larger K, if there are as many held-out points.",
    ),
    "heavy-tail": Warned(
        "A few held-out pairs make up most of the average of exponentials, so the value and its error rest on them.",
        "The largest 1 % of the terms hold more than half of their sum.",
        "Use infonce or more points.",
    ),
    "not-a-bound": Warned(
        "The value is neither an upper nor a lower bound. smile clips its terms, and is low where the critic has not "
        "learned everything; kde-upper subtracts upper bounds from an upper bound, and may err either way.",
        "Every value of smile and every I(T;Y) of kde-upper carries it.",
        "Use infonce, nwj, or the bracket of kde.",
    ),
    "untrained": Warned(
        "The fit had not settled when it ran out of steps.",
        "The last tenth of the steps improved the held-out (or fitted) objective by more than 0.02 nats. For a tap, "
        "the last tenth at the full step size counts, and a rate that moved by more than 0.1 nats raises it too.",
        "Use more steps.",
    ),
    # counting
    "not-quantised": Warned(
        "Nearly every point has values of its own, so counting only says how many points there are.",
        "There are more than 0.5 N distinct rows, and the values of some unit neither repeat nor lie on a grid of at "
        "most 2^16 levels.",
        "Use a quantised network (--bits) or binning.",
    ),
    "few-counts": Warned(
        "There are too few points per symbol to rely on the correction.",
        "There are fewer than 2 points per distinct symbol.",
        "Use more points or fewer symbols.",
    ),
    # taps
    "tap": Warned(
        "This is the information of the tap's own code, which is learned by the tap's objective. It is not the "
        "information of the layer, and no data-processing order holds from layer to layer.",
        "Every number of a tap carries it.",
        "Read it beside the tap's cross-entropy or distortion.",
    ),
    # one number beside another
    "data-processing": Warned(
        "The value is more than the layer below holds, which is impossible for a function of that layer, or it is "
        "more about the label than about the input. Noise or bins of each layer alone do not make a chain, and here "
        "that shows.",
        "The value is above the value of the layer below or of the input, through the same channel, by "
        "more than 4 standard errors (3 between two estimates) and 0.001 nats. Between exact numbers the room is "
        "their errors and 1e-9 of the value.",
        "Read the values as geometry. Beside the value of the input, ask for a standard error or use more points.",
    ),
    "over-ceiling": Warned(
        "The value is above what the quantity can be, so the estimator errs.",
        "The value is above the ceiling by more than 4 standard errors, the known error and 0.001 nats.",
        "Use another estimator or more points.",
    ),
    "negative": Warned(
        "The value is below 0, which information cannot be, so the estimator errs or there is nothing to find.",
        "The value is below 0 by more than 4 standard errors, the known error and 0.001 nats, and it is not a lower "
        "bound.",
        "Use another estimator or more points.",
    ),
    # what kind of codes were measured
    "noise-off": Warned(
        "There is noise at or below this layer, and the number was measured on the mean path, with the noise off.",
        "Every number of the mean path of a layer at or above a noisy one carries it.",
        "Read it as geometry, or ask for replicates.",
    ),
    "replicate-bias": Warned(
        "The law of T given x is known only from a few noisy replicates of each input, so I(X;T) is biased up.",
        "Every number from a finite number of replicates carries it.",
        "Use more replicates.",
    ),
    "sampled-codes": Warned(
        "There is noise at or below this layer, and the number was measured on one noisy draw per point, a sample of "
        "the noisy law.",
        "Every number of one noisy draw of a layer at or above a noisy one carries it.",
        "Use more points.",
    ),
    "not-linear": Warned(
        "The layer is not an affine function of its input, or there is noise below it, so there is no closed form.",
        "max |T - W x - b| of some unit is above 1e-6 of its standard deviation on the probe.",
        "Use the activation linear and no Echo layer below, or use another estimator.",
    ),
    "non-finite": Warned(
        "The layer held NaN or infinite values, so nothing was measured.",
        "At least one value is NaN or infinite.",
        "Train with a smaller learning rate.",
    ),
    # echo
    "above-ceiling": Warned(
        "The rate is more than some set of coordinates can hold, so the ceiling is reported as the information.",
        "The rate is above the ceiling of a subset of coordinates.",
        "Use a larger beta or more points.",
    ),
    "near-ceiling": Warned(
        "The rate is close to a ceiling, where I = R holds only in ever finer digits of z, so it is only an upper "
        "bound.",
        "The rate of a subset of coordinates is above 0.6 of its ceiling.",
        "Use a larger beta or more points.",
    ),
    "resolution": Warned(
        "Part of the rate is in digits finer than 1/1000 of the range of z, because codes cluster or scales are tiny.",
        "With 1000 cells per coordinate, the rate of a subset is above 0.6 of its ceiling, or less than 98 % of the "
        "rate (less 0.01 nats) is seen. It is raised too where z is handed on with digits coarser than a cell (in a "
        "half-precision model).",
        "Use a larger beta; instead of a half-precision model, use autocast.",
    ),
    "unchecked-subsets": Warned(
        "There are too many subsets or combinations of coordinates to hold each of them against its ceiling.",
        "More than 1024 subsets have an entropy below their rate / 0.6, or so many coordinates (more than 4 to 8) have "
        "scales alike within 0.2 nats that 60000 flats through random points could miss a common value.",
        "Use a larger beta, scale='input', or fewer coordinates.",
    ),
    "wide": Warned(
        "The code has too many coordinates to search their combinations for ceilings, so the rate is only an upper "
        "bound.",
        "More than 64 coordinates are not constant.",
        "Use fewer units or, for a feature map, a smaller pool.",
    ),
    "dependent": Warned(
        "Coordinates of the code are linearly dependent, and the rate counts them more than once.",
        "The smallest eigenvalue of Cov(z), scaled by E f_i^2, is below 1e-6.",
        "Use fewer units.",
    ),
    "few-valued": Warned(
        "A linear combination of coordinates takes few values, which is a ceiling that no single coordinate shows.",
        "More than 20 % of the pairs of points lie on parallel lines, or more than 10 % of the triples on parallel "
        "planes. With equal scales, more than a share exp(-R / 0.6) of the points lies on a flat, where R is the rate "
        "of the directions across the flat.",
        "Use fewer units.",
    ),
    "mixed": Warned(
        "S is not diagonal, so any subspace may have a ceiling and not all of them can be checked. The rate is "
        "reported as an upper bound.",
        "The layer has mixing 'rotation' or 'full'.",
        "Use mixing='diagonal'.",
    ),
    "void": Warned(
        "Some coordinates of z are constant (a dead unit). They hold no information, and the rate leaves them out.",
        "max |f_i - v (1 - s_i)| is at most 2.5e-7 of the coordinate's RMS, for some v.",
        "Use He initialisation with positive biases, or fewer units.",
    ),
    "tail": Warned(
        "The echoes were cut off before their tail was negligible.",
        "The tail is worth more than 1e-3 nats.",
        "Use more echoes or a smaller max_scale.",
    ),
    "few-reference": Warned(
        "There are too few reference codes for a layer above the first noisy one.",
        "There are fewer than 4096 independent reference codes.",
        "Use references=4096 or more.",
    ),
    "stale-bank": Warned(
        "The reference codes were not made with the present parameters and inputs.",
        "A mean of f, f^2 or s differs from the probe's by more than 1e-4 standard deviations (first layer) or 5 "
        "standard errors (layers above).",
        "Refill the bank with the weights frozen.",
    ),
    "batch-dependent": Warned(
        "The codes of an input change with the other inputs of its batch or from call to call, so the rate is "
        "I(Z;(X,M)), where M is whatever else the codes depend on, and only bounds I(Z;X).",
        "f of one input differs between two passes by more than 1e-4 of its standard deviation, in any coordinate.",
        "Use BatchNorm in eval mode or frozen, and no dropout below the layer.",
    ),
    "other-law": Warned(
        "The echoes come from one law and the inputs from another, so I = R + h(z) - h(e), which is not R.",
        "The bank was filled from other inputs than the probe.",
        "Let the probe be the law.",
    ),
    "collapsed": Warned(
        "The rate is at its floor of -ln r per coordinate, where r is max_scale: the layer has stopped carrying "
        "information.",
        "The rate is less than 0.02 nats per coordinate above the floor.",
        "Use a smaller beta or a longer warm-up.",
    ),
    "chain": Warned(
        "There is no closed form for I(Z_k;X) above the first noisy layer, so the value is the least of the rates and "
        "ceilings on the way to the layer, an upper bound.",
        "Every I(Z;X) of an Echo layer above the first noisy one carries it.",
        "Read I(Z_k;Z_k-1) beside it.",
    ),
}

#: The warnings of a number that its quantity cannot have.
IMPOSSIBLE = ("data-processing", "over-ceiling", "negative")
