"""Frames of a run in, frames out. Does not load torch."""
