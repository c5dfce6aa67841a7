"""The gates: is a fit fit to publish? Plain functions of a fit, with their thresholds by name.

A fault keeps the numbers of this run out of the tables (exit 76); a remark goes with them into
``analytics_runs.reason`` and the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seed_analytics.run import Verdict

if TYPE_CHECKING:  # scikit-learn loads only for the stage that needs it
    from seed_analytics.segments import Segments

RHAT_MAX = 1.01  # Vehtari et al., Bayesian Analysis 16:667 (2021)
ESS_MIN = 400  # the same: enough for stable tail quantiles over four chains
DIVERGENT_MAX = 0
STABILITY_MIN = 0.6  # adjusted Rand index over seeds; over learners drawn anew, below it is said
STRUCTURE_MIN = 0.25  # silhouette; below, no substantial structure: Kaufman & Rousseeuw, Finding Groups (1990), p. 88
SMALLEST_SEGMENT = 0.01  # share of the learners
CONCORDANCE_MIN = 0.5  # of the held-out weeks: a coin's
BRIER_COIN = 0.25  # of a coin, whatever happens
CALIBRATION_SLOPE = (0.5, 2.0)  # outside, S is far too bold or far too timid to act on
PH_REMARK_P = 0.001  # large samples reject every hypothesis: said, not refused
CALIBRATED_MIN = 0.5  # share of the answered items
# Of the abilities. Estimates correlate with the truth as its root, so that of two learners the abler one is put first
# with probability 1/2 + asin(sqrt(reliability)) / pi (bivariate normal): 68 % here, where chance alone has 50 %.
RELIABILITY_MIN = 0.3
LINKING_SLOPE = (0.5, 2.0)  # unit of ability by the anchors, against the calibrated learners' own
LINKING_DRIFT_MAX = 0.5  # sd of the anchors' movement beyond sampling error, in units of their old difficulties
A_USUAL = (0.2, 4.0)  # discrimination that tests show
SE_B_MAX, VAGUE_SHARE = 1.0, 0.1  # difficulty known to a standard deviation of ability; share of items beyond it


def irt(fit: dict[str, Any]) -> Verdict:
    """Judge a calibration: converged, telling more than chance, one scale, on the scale of the anchors."""
    items, excluded = fit["items"], fit["excluded"]
    fitted, left_out = len(items["item_id"]), len(excluded["item_id"])
    faults, remarks = [], [str(warning) for warning in fit["warnings"]]
    if not fit["converged"]:
        faults.append(f"EM did not converge in {fit['n_iterations']} iterations: use the 1PL, or a tighter prior on a")
    if not fit["determined"]:
        faults.append(
            "The answers do not determine the parameters: the information at the estimates is not positive definite, "
            "and there are no standard errors"
        )
    if fitted < CALIBRATED_MIN * (fitted + left_out):
        faults.append(f"Only {fitted} of {fitted + left_out} items could be calibrated: {_some(excluded['reason'], 1)}")
    elif left_out:
        remarks.append(f"Items left out: {left_out} of {fitted + left_out} ({_some(excluded['item_id'])})")
    reliability = fit["fit"]["reliability"]
    if reliability is not None and reliability < RELIABILITY_MIN:
        faults.append(f"The answers hardly tell learners apart: reliability {reliability:.2f}, below {RELIABILITY_MIN}")
    faults += _linking_faults(fit.get("linking"))
    odd = [item for item, a in zip(items["item_id"], items["a"], strict=True) if not A_USUAL[0] <= a <= A_USUAL[1]]
    if odd:
        remarks.append(f"Items with a discrimination outside {A_USUAL[0]} to {A_USUAL[1]}: {_some(odd)}")
    vague = [item for item, se in zip(items["item_id"], items["se_b"], strict=True) if se is not None and se > SE_B_MAX]
    if len(vague) > VAGUE_SHARE * fitted:
        remarks.append(f"The difficulty of {len(vague)} of {fitted} items is hardly known (se above {SE_B_MAX:g})")
    dependent = fit["fit"]["n_dependent_pairs"]
    if dependent:
        remarks.append(f"Pairs of items that share more than ability explains (Q3): {dependent}")
    return Verdict(tuple(faults), tuple(remarks))


def _linking_faults(linking: dict[str, Any] | None) -> list[str]:
    faults = []
    if linking and not LINKING_SLOPE[0] <= linking["slope"] <= LINKING_SLOPE[1]:
        faults.append(
            f"The anchors have another unit than before: slope {linking['slope']:.2f}, outside {LINKING_SLOPE}"
        )
    if linking and linking["drift"] > LINKING_DRIFT_MAX:
        faults.append(
            f"The anchors have moved against each other: by {linking['drift']:.2f} (sd, beyond sampling error) on "
            f"their own scale, above {LINKING_DRIFT_MAX}: an anchor item may have been changed"
        )
    return faults


def segments(fit: Segments) -> Verdict:
    """Judge a clustering: stable over seeds; that chance drew the borders, weak structure, tiny segments are said."""
    faults, remarks = [], list(fit.remarks)
    if fit.adjusted_rand_index < STABILITY_MIN:
        faults.append(
            f"Other seeds give other segments: adjusted Rand index {fit.adjusted_rand_index:.2f}, below {STABILITY_MIN}"
        )
    if fit.redrawn_rand_index < STABILITY_MIN:
        remarks.append(
            f"Learners drawn anew give other segments: adjusted Rand index {fit.redrawn_rand_index:.2f}, "
            f"below {STABILITY_MIN}"
        )
    counts = [int((fit.assigned == cluster_id).sum()) for cluster_id in range(fit.n_clusters)]
    tiny = [
        label for label, count in zip(fit.labels, counts, strict=True) if count < SMALLEST_SEGMENT * len(fit.assigned)
    ]
    if tiny:
        remarks.append(f"Segments of less than {SMALLEST_SEGMENT:.0%} of the learners: {', '.join(tiny)}")
    if fit.n_clusters > 1 and fit.silhouette < STRUCTURE_MIN:
        remarks.append(
            f"The split has a silhouette of {fit.silhouette:.2f}, below {STRUCTURE_MIN}: "
            "the learners form one continuum more than groups"
        )
    return Verdict(tuple(faults), tuple(remarks))


def survival(fit: dict[str, Any]) -> Verdict:
    """Judge a Cox fit: no separation, calibrated and better than a coin on later weeks; bent hazards are said."""
    faults = [f"{term} decides alone who comes back: separation" for term in fit["separated"]]
    remarks = [str(warning) for warning in fit.get("warnings") or []]
    holdout = fit.get("holdout")
    if not holdout:
        remarks.append("Too few later weeks to check the predictions on")
    elif who := all_alike(holdout):  # a base rate that is never wrong, and no order to be found
        if holdout["brier"] > BRIER_COIN:
            faults.append(f"On later weeks {who} came back, and S is worse than a coin: Brier {holdout['brier']:.4f}")
        else:
            remarks.append(f"On later weeks {who} came back: S is compared with a coin only")
    else:
        concordance, slope = holdout.get("concordance"), holdout.get("calibration_slope")
        if concordance is not None and concordance < CONCORDANCE_MIN:
            faults.append(f"On later weeks the model orders learners worse than a coin: concordance {concordance:.3f}")
        if slope is not None and not CALIBRATION_SLOPE[0] <= slope <= CALIBRATION_SLOPE[1]:
            faults.append(f"On later weeks S is not calibrated: slope {slope:.2f}, outside {CALIBRATION_SLOPE}")
        if holdout["brier"] > holdout["brier_base_rate"]:
            faults.append(
                f"On later weeks S is worse than the base rate: Brier score {holdout['brier']:.4f} "
                f"against {holdout['brier_base_rate']:.4f}"
            )
    test = fit["ph_test"]
    broken = [
        t for t, p in zip(test["term"], test["p"], strict=True) if p is not None and p < PH_REMARK_P and t != "GLOBAL"
    ]
    if broken:
        remarks.append(f"Hazards are not proportional for {', '.join(broken)}: their ratios are averages over time")
    return Verdict(tuple(faults), tuple(remarks))


def all_alike(holdout: Mapping[str, Any]) -> str | None:
    """Say who came back on later weeks, "everybody" or "nobody"; None where some did."""
    rate = holdout.get("base_rate")
    return "everybody" if rate == 1 else "nobody" if rate == 0 else None


def forecast(fits: list[dict[str, Any]]) -> Verdict:
    """Judge the forecasts: finite, with an interval; falling back to a simpler forecast is said by the service."""
    faults, remarks = [], []
    for fit in fits:
        remarks += [f"{fit['metric']}: {warning}" for warning in fit.get("warnings") or []]
        ahead = fit["forecast"]
        if not ahead["yhat"] or any(value is None for value in (*ahead["yhat"], *ahead["lower"], *ahead["upper"])):
            faults.append(f"{fit['metric']}: the forecast has weeks without a value")
        elif any(low > high for low, high in zip(ahead["lower"], ahead["upper"], strict=True)):
            faults.append(f"{fit['metric']}: the forecast's interval is upside down")
    return Verdict(tuple(faults), tuple(remarks))


def growth(fit: dict[str, Any]) -> Verdict:
    """Judge a posterior by the diagnostics of its chains."""
    seen = fit["diagnostics"]
    faults = []
    if seen["max_rhat"] is None or seen["max_rhat"] > RHAT_MAX:
        faults.append(f"The chains disagree: R-hat {seen['max_rhat']}, above {RHAT_MAX}")
    for kind in ("bulk", "tail"):
        ess = seen[f"min_ess_{kind}"]
        if ess is None or ess < ESS_MIN:
            faults.append(f"Too few effective draws: {kind} ESS {ess}, below {ESS_MIN}; raise BRMS_N_SAMPLES")
    if seen["divergent"] > DIVERGENT_MAX:
        faults.append(f"{seen['divergent']} divergent transitions")
    return Verdict(tuple(faults), tuple(str(warning) for warning in fit.get("warnings") or []))


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
