"""Every estimator beside what is known exactly: channels with their truths, trials, and verdicts.

frame = calibrate()          # one row a channel, seed and number
"""

from .trials import calibrate, standard_estimators
from .verdict import VERDICTS, render, summarise, verdict

__all__ = ["VERDICTS", "calibrate", "render", "standard_estimators", "summarise", "verdict"]
