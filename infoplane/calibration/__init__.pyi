from .trials import calibrate as calibrate
from .trials import standard_estimators as standard_estimators
from .verdict import VERDICTS as VERDICTS
from .verdict import render as render
from .verdict import summarise as summarise
from .verdict import verdict as verdict
