from .gap import RankCorrelation as RankCorrelation
from .gap import correlations as correlations
from .gap import gap_table as gap_table
from .gap import rank_correlation as rank_correlation
from .means import fall_from_peak as fall_from_peak
from .means import mean_over_replicas as mean_over_replicas
from .points import in_unit as in_unit
from .summary import summary as summary
