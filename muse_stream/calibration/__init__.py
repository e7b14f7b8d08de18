"""Pure statistics of scores: the two transformations, reference distributions, and whether an alert rate moved.

posterior_correction   level 1: undoes the undersampling that a model was trained on
reference              the score distribution promised to a tenant
quantile_map           level 2: a model's scores onto the reference
evidence               how far a fitted map can be trusted; beta from labelled events
cold_start             a tenant's map from other tenants' scores and the few of its own
piecewise_linear       monotone functions, the form of both
alert_rates            did an alert rate move by more than its sampling error?
alert_watch            the same, asked again and again as events come in
recalibration          a monotone curve from scores to probabilities, fitted to labels
prior_shift            positives become more or less frequent: correction, estimate, test of its assumption
score_histogram        counts of scores on a fixed grid: mergeable, of constant size
score_sketch           the distribution of any number of scores in 13 to 30 kB, most exact at the top; mergeable
day_counts             what is kept of one tenant's, predictor's and day's scores, and the offsets it covers
sketch_map             a quantile map from such counts, and what it can be trusted in
drift                  has a stream left the promise? Asked for ever, with bounded false alarms
drift_evidence         how strongly counts say that alert rates, and shares between them, have left their bands
refresh                which days a map is fitted to anew, what makes them unfit, how far it would move
policies               which map a tenant would have had in each period, walked forward
score_comparison       two predictors on the same events: ranks, quantiles, rates with grouped intervals
measures               how well scores keep a promise, rank, and tell the truth
"""

from muse_stream.calibration.alert_rates import LIMIT, Expected, Move, Term, expected, move
from muse_stream.calibration.alert_watch import AlertWatch, Verdict
from muse_stream.calibration.cold_start import Pool, Posterior
from muse_stream.calibration.day_counts import CELLS, GROUPS, Arrivals, DayCounts, MapCounts, counts_name
from muse_stream.calibration.drift import Drift, DriftLimits, RateDrift, Recent, drift
from muse_stream.calibration.evidence import (
    EstimatedBeta,
    Trust,
    design_effect,
    estimate_beta,
    trust,
    trust_in_cold_start,
)
from muse_stream.calibration.measures import (
    AlertRate,
    Rate,
    brier_score,
    calibration_curve,
    expected_calibration_error,
    intervals,
    kolmogorov_smirnov,
    labelled_measures,
    population_stability,
    stability_edges,
)
from muse_stream.calibration.piecewise_linear import Curves, Floats, Segments
from muse_stream.calibration.policies import HINDSIGHT, MAPPED, POLICIES, Refresher, Served, Window, of_histogram
from muse_stream.calibration.posterior_correction import corrected, corrected_each, posterior_correction
from muse_stream.calibration.prior_shift import PriorEstimate, estimate_prior, prior_beta
from muse_stream.calibration.quantile_map import FittedMap, QuantileMap
from muse_stream.calibration.recalibration import Method, Recalibration
from muse_stream.calibration.reference import Reference
from muse_stream.calibration.refresh import (
    Incident,
    RateMove,
    RefreshWindow,
    days_since,
    entity_share,
    incidents,
    largest,
    moves,
    refresh_window,
    window_rates,
)
from muse_stream.calibration.score_comparison import (
    GroupedRate,
    distance_from,
    grouped_rate,
    quantile_pairs,
    rank_agreement,
    wilson,
)
from muse_stream.calibration.score_histogram import ScoreHistogram
from muse_stream.calibration.score_sketch import ScoreSketch
from muse_stream.calibration.sketch_map import SketchMap, map_from_counts

__all__ = [
    "CELLS",
    "GROUPS",
    "HINDSIGHT",
    "LIMIT",
    "MAPPED",
    "POLICIES",
    "AlertRate",
    "AlertWatch",
    "Arrivals",
    "Curves",
    "DayCounts",
    "Drift",
    "DriftLimits",
    "EstimatedBeta",
    "Expected",
    "FittedMap",
    "Floats",
    "GroupedRate",
    "Incident",
    "MapCounts",
    "Method",
    "Move",
    "Pool",
    "Posterior",
    "PriorEstimate",
    "QuantileMap",
    "Rate",
    "RateDrift",
    "RateMove",
    "Recalibration",
    "Recent",
    "Reference",
    "RefreshWindow",
    "Refresher",
    "ScoreHistogram",
    "ScoreSketch",
    "Segments",
    "Served",
    "SketchMap",
    "Term",
    "Trust",
    "Verdict",
    "Window",
    "brier_score",
    "calibration_curve",
    "corrected",
    "corrected_each",
    "counts_name",
    "days_since",
    "design_effect",
    "distance_from",
    "drift",
    "entity_share",
    "estimate_beta",
    "estimate_prior",
    "expected",
    "expected_calibration_error",
    "grouped_rate",
    "incidents",
    "intervals",
    "kolmogorov_smirnov",
    "labelled_measures",
    "largest",
    "map_from_counts",
    "move",
    "moves",
    "of_histogram",
    "population_stability",
    "posterior_correction",
    "prior_beta",
    "quantile_pairs",
    "rank_agreement",
    "refresh_window",
    "stability_edges",
    "trust",
    "trust_in_cold_start",
    "wilson",
    "window_rates",
]
