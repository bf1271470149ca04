"""Settings that belong together: those of published experiments, and those that suit a noise."""

from __future__ import annotations

from typing import Any

__all__ = ["OTHER_NOISE", "PRESETS"]

#: The settings that suit noise other than Echo noise: the published noisy networks have noise of
#: one size everywhere, and no penalty on the rate.
OTHER_NOISE: dict[str, dict[str, Any]] = {
    "gaussian": {"beta": 0.0, "scale": "constant", "estimators": ("mean-field", "kde", "binning")},
    "dropout": {"beta": 0.0, "estimators": ("mean-field", "kde", "binning")},
}

#: The settings of published experiments. Whatever is given beside a preset wins.
PRESETS: dict[str, dict[str, Any]] = {
    "tishby": {
        "activation": "tanh",
        "init": "tishby",
        "lr": 4e-4,
        "batch_size": 512,
        "epochs": 8000,
        "snapshots": "tishby",
        "estimators": ("binning:bins=30,range=-1..1",),
        "ordered": True,
    },
    "saxe": {
        "init": "saxe",
        "lr": 4e-4,
        "batch_size": 256,
        "epochs": 10_000,
        "snapshots": "saxe",
        "estimators": ("kde", "binning"),
    },
    # The published run has 10 000 epochs.
    "saxe-mnist": {
        "dataset": "mnist",
        "model": "mlp",
        "widths": (1024, 20, 20, 20),
        "activation": "tanh",
        "init": "saxe",
        "optimizer": "sgd",
        "lr": 1e-3,
        "batch_size": 128,
        "epochs": 100,
        "snapshots": "saxe",
        "estimators": ("kde:noise_variance=0.1", "binning:width=0.5"),
        "probe": "test",
        "echo_on": None,
    },
}
