"""The epochs at which a run is measured, from a short text. Does not load torch."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import InfoplaneError
from .typed import shown

__all__ = ["SCHEDULES", "snapshot_epochs"]


def _saxe(epochs: int) -> list[int]:
    """Return the schedule of Saxe et al., as in their code ibsgd.

    It holds every epoch below 20, every 5th up to 100, every 20th up to 2000, then every 100th.

    References:
        A. Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018,
        https://github.com/artemyk/ibsgd
    """
    return [
        e for e in range(epochs + 1) if e < 20 or (e < 100 and e % 5 == 0) or (e < 2000 and e % 20 == 0) or e % 100 == 0
    ]


def _log_spaced(epochs: int, count: int, whole: Callable[[float], int] = round) -> list[int]:
    """Return epoch 0 and `count` log-spaced epochs up to the last, or fewer if some coincide."""
    if count < 2:
        return [0, epochs]
    return sorted({0} | {whole(epochs ** (k / (count - 1)) + 1e-9) for k in range(count)})


#: Published schedules, by the name of their authors.
SCHEDULES: dict[str, Callable[[int], list[int]]] = {
    "saxe": _saxe,
    "tishby": lambda epochs: _log_spaced(epochs, 400, math.floor),  # as in IDNNs: 274 epochs out of 8000
}


def snapshot_epochs(text: str, epochs: int) -> list[int]:
    """Return the epochs at which a run of `epochs` epochs is measured, in rising order.

    The first and the last epoch are always among them.

    Args:
        text: "log:16" for 16 log-spaced epochs, "every:10" for every tenth, "saxe" or "tishby" for
            a published schedule, or a list of epochs such as "0,1,10,100".
        epochs: The length of the run.

    Raises:
        InfoplaneError: If the text is none of these, or asks for an epoch that the run does not
            have.

    Example:
        >>> snapshot_epochs("every:30", 100)
        [0, 30, 60, 90, 100]
    """
    try:
        if text in SCHEDULES:
            chosen = SCHEDULES[text](epochs)
        elif text.startswith("log:"):
            chosen = _log_spaced(epochs, int(text[4:]))
        elif text.startswith("every:"):
            chosen = list(range(0, epochs + 1, int(text[6:])))
        else:
            chosen = [int(part) for part in text.split(",")]
    except ValueError:
        raise InfoplaneError(
            f"snapshots is {shown(text)}; expected log:COUNT, every:EPOCHS, {', '.join(SCHEDULES)}, or a list such as "
            "0,1,10."
        ) from None
    late = [e for e in chosen if not 0 <= e <= epochs]
    if late:
        raise InfoplaneError(f"snapshots asks for epoch {late[0]}; expected 0 to {epochs}, the epochs of this run.")
    return sorted({0, epochs, *chosen})
