"""Every setting of every stage: name, aliases, default, range and meaning, written once.

A setting is an environment variable; the flag of the same name (``MIRT_MODEL`` -> ``--mirt-model``) wins over it.
Secrets (``DATABASE_URL``, tokens) have no flag, since command lines are visible to everybody on a machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from seed_analytics.errors import ConfigFault, UsageFault

SERVICES = {"R_IRT": "r-irt-plumber", "R_FORECAST": "r-forecast-plumber", "R_BRMS": "r-brms-plumber"}
"""Prefix of the settings that say where a service is -> its name."""

KPI_KEYS = ("I_t", "E_t", "R_t", "A_t", "sessions", "mean_gap", "accuracy", "attempts")
"""What compute-weekly-kpis writes into weekly_kpi.kpis (docs/kpis.md defines each)."""

CLUSTER_FEATURES = {
    "engagement": "A_t",
    "improvement": "I_t",
    "efficiency": "E_t",
    "recovery": "R_t",
    "accuracy": "accuracy",
    "sessions": "sessions",
    "mean_gap": "mean_gap",
    "attempts": "attempts",
}
"""Name of a segment feature -> the KPI that it averages."""


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _strip(value: Any) -> Any:
    # Secrets made by a heredoc or `echo` end in a newline, which no HTTP header may hold and no database is named.
    return value.strip() if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Secret = Annotated[SecretStr, BeforeValidator(_strip)]


def _setting(default: Any, description: str, *names: str, **constraints: Any) -> Any:
    # `names`, where an older name is still understood: the variable itself first, then its aliases.
    alias = AliasChoices(*names) if names else None
    return Field(default, description=description, validation_alias=alias, **constraints)


class Settings(BaseSettings):
    """What every stage needs."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True, hide_input_in_errors=True
    )

    database_url: Secret = Field(
        description="PostgreSQL, as postgresql://user:password@host:port/database.", min_length=1
    )
    as_of: datetime | None = _setting(
        None,
        "Run as if it were 00:00 UTC of this date (YYYY-MM-DD); later rows are not read. Empty: the database's clock.",
    )
    dry_run: bool = _setting(False, "Do everything but write: no table changes, not even analytics_runs.")
    seed: int = _setting(20251102, "Seed of every random number; recorded with the run.", ge=0, lt=2**31)
    attempt_student_id_form: Literal["same", "md5-uuid"] = _setting(
        "same", "How attempt.student_id is made of a user id: the id itself, or md5(user_id)::uuid."
    )
    min_join_share: float = _setting(
        0.5,
        "Smallest share of the log's learners that must be found in the platform's other tables; below it the ids are "
        "taken for wrong, and nothing is computed of the log.",
        ge=0,
        le=1,
    )
    log_format: Literal["auto", "rich", "plain", "json"] = _setting(
        "auto", "auto: progress on a terminal, JSON lines in a pod, plain lines elsewhere."
    )

    @field_validator("as_of", mode="before")
    @classmethod
    def _midnight_utc(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = date.fromisoformat(value)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        return datetime.combine(value, time(), UTC) if isinstance(value, date) else value


class IrtService(Settings):
    """Where r-irt-plumber is."""

    r_irt_base_url: HttpUrl = _setting(HttpUrl("http://r-irt-plumber"), "Address of r-irt-plumber.")
    r_irt_timeout_secs: float = _setting(300, "Longest wait for one reply of r-irt-plumber, seconds.", gt=0, le=86400)
    r_irt_internal_token: Secret = _setting(SecretStr(""), "Bearer token of r-irt-plumber.")


class ForecastService(Settings):
    """Where r-forecast-plumber is."""

    r_forecast_base_url: HttpUrl = _setting(HttpUrl("http://r-forecast-plumber"), "Address of r-forecast-plumber.")
    r_forecast_timeout_secs: float = _setting(
        300, "Longest wait for one reply of r-forecast-plumber, seconds.", gt=0, le=86400
    )
    r_forecast_internal_token: Secret = _setting(SecretStr(""), "Bearer token of r-forecast-plumber.")


class BrmsService(Settings):
    """Where r-brms-plumber is."""

    r_brms_base_url: HttpUrl = _setting(HttpUrl("http://r-brms-plumber"), "Address of r-brms-plumber.")
    r_brms_timeout_secs: float = _setting(
        1200, "Longest wait for one reply of r-brms-plumber, seconds.", gt=0, le=86400
    )
    r_brms_internal_token: Secret = _setting(SecretStr(""), "Bearer token of r-brms-plumber.")


class KpiSettings(Settings):
    """Settings of compute-weekly-kpis."""

    kpi_lookback_weeks: int = _setting(2, "Complete weeks to compute again, besides the unfinished one.", ge=0, le=520)


class IrtSettings(IrtService):
    """Settings of calibrate-irt-weekly."""

    mirt_lookback_days: int = _setting(
        60, "Days of answers to read.", "MIRT_LOOKBACK_DAYS", "IRT_CALIB_LOOKBACK_DAYS", ge=1, le=3650
    )
    mirt_model: Literal["1PL", "2PL"] = _setting(
        "2PL", "1PL: all items discriminate alike; 2PL: each has its own slope.", "MIRT_MODEL", "IRT_MODEL"
    )
    mirt_max_obs: int = _setting(0, "Most answers to fit; the newest are kept. 0: all.", ge=0)
    mirt_topic_id: str | None = _setting(None, "Calibrate the items of this topic only. Empty: all topics.")
    mirt_min_answers: int = _setting(30, "Items with fewer first answers are reported, not fitted.", ge=2)
    mirt_linking: Literal["mean-sigma", "fixed"] = _setting(
        "mean-sigma", "How anchor items (tag 'anchor') carry the scale over from run to run."
    )
    mirt_prior_a_sdlog: float = _setting(
        0.5,
        "Spread of the lognormal prior on discrimination, around 1 or held anchors: for items of few answers. 0: none.",
        ge=0,
        le=10,
    )
    mirt_equal_groups: bool = _setting(
        False,
        "Items fall into groups that no learner links: true fits them together, as if the groups were equally able.",
    )
    mirt_max_retries: int = _setting(3, "Tries again when the service does not answer.", ge=0, le=20)
    mirt_retry_delay_secs: float = _setting(5, "First wait between tries, seconds; doubled each time.", ge=0, le=600)
    irt_update_question_meta: bool = _setting(False, "Also write a and b into question.meta -> irt.")


class ClusterSettings(Settings):
    """Settings of cluster-segments."""

    cluster_lookback_weeks: int = _setting(12, "Complete weeks of KPIs to average.", ge=1, le=520)
    cluster_n_clusters: int | None = _setting(
        None, "Number of segments. Empty: chosen by silhouette over 2..8.", ge=1, le=8
    )
    cluster_method: Literal["kmeans"] = _setting("kmeans", "Clustering method.")
    cluster_features: Names = _setting(
        ("engagement", "improvement", "efficiency", "recovery", "accuracy", "sessions"),
        f"Features to cluster on, comma-separated, of: {', '.join(CLUSTER_FEATURES)}.",
    )

    @field_validator("cluster_features")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in CLUSTER_FEATURES]
        if unknown or not names or len(set(names)) < len(names):
            raise ValueError(f"must name each feature once, of {', '.join(CLUSTER_FEATURES)}; got {', '.join(names)}")
        return names


class SurvivalSettings(ForecastService):
    """Settings of fit-survival-churn."""

    survival_lookback_days: int = _setting(90, "Days of visits to fit.", ge=28, le=3650)
    survival_event_threshold_days: int = _setting(
        14, "Days of silence after which a learner counts as gone.", ge=1, le=365
    )
    survival_update_kpi: bool = _setting(True, "Also write S into weekly_kpi.kpis.")


class ProphetSettings(ForecastService):
    """Settings of forecast-prophet."""

    prophet_lookback_weeks: int = _setting(12, "Complete weeks to fit.", ge=8, le=520)
    prophet_forecast_weeks: int = _setting(4, "Weeks to forecast.", ge=1, le=52)
    prophet_anomaly_threshold: float = _setting(
        2.5, "Half-width of the expected interval, in predictive standard deviations.", gt=0, le=10
    )
    prophet_metrics: Names = _setting(("I_t",), f"KPIs to forecast, comma-separated, of: {', '.join(KPI_KEYS)}.")

    @field_validator("prophet_metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in KPI_KEYS]
        if unknown or not names or len(set(names)) < len(names):
            raise ValueError(f"must name each KPI once, of {', '.join(KPI_KEYS)}; got {', '.join(names)}")
        return names


class GrowthSettings(BrmsService):
    """Settings of fit-bayesian-growth."""

    brms_lookback_weeks: int = _setting(
        12, "Complete weeks of scores to fit.", "BRMS_LOOKBACK_WEEKS", "LOOKBACK_WEEKS", ge=3, le=520
    )
    brms_horizon_weeks: int = _setting(4, "Weeks ahead for which the chance of the goal is given.", ge=0, le=52)
    brms_n_samples: int = _setting(
        1000,
        "Iterations a chain, the first half of them warm-up.",
        "BRMS_N_SAMPLES",
        "BRMS_ITER",
        ge=100,
        le=100000,
    )
    brms_n_chains: int = _setting(4, "Markov chains.", "BRMS_N_CHAINS", "BRMS_CHAINS", ge=2, le=16)
    brms_engine: Literal["marginal", "brms"] = _setting(
        "marginal",
        "marginal: seconds, gaussian only; brms: minutes, either family.",
    )
    brms_family: Literal["gaussian", "student"] = _setting(
        "gaussian", "Response distribution, of those that the service has compiled; student is robust against outliers."
    )
    brms_score_source: Literal["accuracy", "I_t", "E_t", "R_t", "A_t"] = _setting(
        "accuracy", "The weekly score: share right of the week's answers, or a KPI."
    )
    brms_score_scale: Literal["raw", "standing"] = _setting(
        "raw",
        "raw: the score itself; standing: its normal score among the week's learners, for weeks not equally hard.",
    )
    brms_update_kpi: bool = _setting(True, "Also write P and sigma into weekly_kpi.kpis.")
    metrics_default_target: float = _setting(
        0,
        "The goal, in the score's own unit (a standing of 0.84: the upper fifth). 0: the mean score of the weeks read.",
    )

    @field_validator("brms_family")
    @classmethod
    def _engine_has_family(cls, family: str, info: Any) -> str:
        if info.data.get("brms_engine") == "marginal" and family != "gaussian":
            raise ValueError("BRMS_ENGINE=marginal knows gaussian only; set BRMS_ENGINE=brms for the other family")
        return family


@dataclass(frozen=True)
class StageInfo:
    """What is known of a stage without importing it.

    Attributes:
        summary: what it does, one sentence.
        settings: what it reads.
        service: the R service that fits for it, if any.
        max_age_hours: after how long its numbers are stale, unless told: its schedule's longest gap and one more day.

    """

    summary: str
    settings: type[Settings]
    service: str | None
    max_age_hours: int


STAGES = {
    "compute-weekly-kpis": StageInfo(
        "Compute each learner's weekly KPIs from the log.", KpiSettings, None, max_age_hours=2 * 24
    ),
    "calibrate-irt-weekly": StageInfo(
        "Calibrate items and abilities (1PL, 2PL).", IrtSettings, "r-irt-plumber", max_age_hours=2 * 24
    ),
    "cluster-segments": StageInfo("Group learners who learn alike.", ClusterSettings, None, max_age_hours=18 * 24),
    "fit-survival-churn": StageInfo(
        "Estimate the chance that a learner comes back.", SurvivalSettings, "r-forecast-plumber", max_age_hours=2 * 24
    ),
    "forecast-prophet": StageInfo(
        "Forecast weekly metrics and mark weeks that were not as expected.",
        ProphetSettings,
        "r-forecast-plumber",
        max_age_hours=8 * 24,
    ),
    "fit-bayesian-growth": StageInfo(
        "Estimate the chance that a learner reaches the goal.", GrowthSettings, "r-brms-plumber", max_age_hours=8 * 24
    ),
}
"""Every stage that records its runs, in the order in which a first run goes through them."""

MODEL_STAGES = tuple(STAGES)[1:]
"""The five that fit a model; the platform may compute its KPIs itself."""


class VerifySettings(IrtService, ForecastService, BrmsService):
    """Settings of verify."""

    verify_services: Names = _setting(
        tuple(SERVICES.values()), "R services whose health is asked for, comma-separated; none asks none."
    )
    verify_stages: Names = _setting(
        MODEL_STAGES,
        "Stages whose freshness is checked, comma-separated; none checks none.",
    )
    verify_max_age_hours: Names = _setting(
        (),
        "Hours after which a stage's numbers are stale, as stage=hours, comma-separated. Empty: by its usual schedule.",
    )

    @field_validator("verify_services", "verify_stages")
    @classmethod
    def _none(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return () if names == ("none",) else names  # a variable that is empty counts as unset, so it needs a word

    @field_validator("verify_max_age_hours")
    @classmethod
    def _limits(cls, limits: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [limit for limit in limits if not re.fullmatch(r"[a-z][-a-z0-9]*=[1-9][0-9]*", limit)]
        if wrong:
            raise ValueError(f"must be stage=hours, such as fit-survival-churn=48; got {', '.join(wrong)}")
        return limits

    @property
    def max_age_hours(self) -> dict[str, int]:
        """Stage -> hours after which its numbers are stale, where they were given."""
        return {stage: int(hours) for stage, _, hours in (limit.partition("=") for limit in self.verify_max_age_hours)}

    @field_validator("verify_services")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = set(names) - set(SERVICES.values())
        if unknown:
            raise ValueError(f"must be of {', '.join(SERVICES.values())}; got {', '.join(sorted(unknown))}")
        return names


class ReportSettings(Settings):
    """Settings of report."""

    report_path: Path = _setting(Path("report.html"), "Where the HTML page is written.")


S = TypeVar("S", bound=Settings)


class SettingInfo(BaseModel):
    """One setting as documentation and the chart's tests see it."""

    model_config = ConfigDict(frozen=True)

    name: str
    aliases: tuple[str, ...]
    default: str
    description: str
    secret: bool
    required: bool


def env_name(field: str) -> str:
    """Return the environment variable of a settings field."""
    return field.upper()


def aliases(info: FieldInfo) -> list[str]:
    """Return the legacy environment variables that a field also answers to."""
    alias = info.validation_alias
    return [str(name) for name in alias.choices[1:]] if isinstance(alias, AliasChoices) else []


def is_secret(info: FieldInfo) -> bool:
    """Say whether a field holds a password or token: it has no flag and is never printed."""
    return info.annotation is SecretStr


def load(settings: type[S], flags: Mapping[str, Any] | None = None) -> S:
    """Read a stage's settings: flags win, then the environment, then the defaults.

    Args:
        settings: the stage's settings class.
        flags: values of command-line flags by field name, only those that were given.

    Raises:
        UsageFault: a flag's value is out of range.
        ConfigFault: an environment variable is missing or out of range; the message names each one.

    """
    given = {_key(settings, field): value for field, value in (flags or {}).items()}
    try:
        return settings(**given)
    except ValidationError as error:
        faults = [(_field(settings, fault), fault["msg"].removeprefix("Value error, ")) for fault in error.errors()]
        from_flags = [(field, message) for field, message in faults if field in (flags or {})]
        if from_flags:
            raise UsageFault(
                "; ".join(f"--{field.replace('_', '-')}: {message}" for field, message in from_flags)
            ) from None
        raise ConfigFault("; ".join(f"{env_name(field)}: {_said(message)}" for field, message in faults)) from None


def _key(settings: type[Settings], field: str) -> str:
    alias = settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else field


def _field(settings: type[Settings], fault: Any) -> str:
    # pydantic names the alias by which a value came; the reader knows the setting by its first name.
    where = str(fault["loc"][0]) if fault["loc"] else ""
    for field, info in settings.model_fields.items():
        if where.upper() in {field.upper(), *(name.upper() for name in aliases(info))}:
            return field
    return where


def _said(message: str) -> str:
    return "is not set" if message == "Field required" else message


def describe(settings: type[Settings]) -> list[SettingInfo]:
    """List the settings of a stage in the order of their definition."""

    def shown(info: FieldInfo) -> str:
        if is_secret(info) or info.is_required() or info.default is None:
            return ""
        value = info.default
        if isinstance(value, bool):
            return str(value).lower()
        return ",".join(value) if isinstance(value, tuple) else str(value).rstrip("/")

    return [
        SettingInfo(
            name=env_name(field),
            aliases=tuple(aliases(info)),
            default=shown(info),
            description=info.description or "",
            secret=is_secret(info),
            required=info.is_required(),
        )
        for field, info in settings.model_fields.items()
    ]
