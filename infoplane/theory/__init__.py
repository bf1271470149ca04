"""Closed forms that measurements are held against. Needs torch."""
