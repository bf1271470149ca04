"""Runs: settings, training, the run directory, sweeps, and measuring what exists already."""
