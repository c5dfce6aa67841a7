"""Settings: flags win over the environment, which wins over the defaults; bad values stop the run and are named."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import HttpUrl, SecretStr
from seed_analytics import cli
from seed_analytics.errors import ConfigFault, ExitCode, UsageFault
from seed_analytics.settings import (
    SERVICES,
    STAGES,
    ClusterSettings,
    GrowthSettings,
    IrtSettings,
    ProphetSettings,
    Settings,
    SurvivalSettings,
    VerifySettings,
    aliases,
    describe,
    load,
)
from support import invoke

URL = "postgresql://teacher:secret-word@db.example:5432/seedtest"
ALL_SETTINGS = sorted(set(cli.COMMAND_SETTINGS.values()), key=lambda kind: kind.__name__)


@pytest.fixture(autouse=True)
def _database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)


def test_default_is_used_where_nothing_is_set() -> None:
    assert load(IrtSettings).mirt_lookback_days == 60


def test_environment_wins_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRT_LOOKBACK_DAYS", "30")
    assert load(IrtSettings).mirt_lookback_days == 30


def test_flag_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRT_LOOKBACK_DAYS", "30")
    assert load(IrtSettings, {"mirt_lookback_days": "7"}).mirt_lookback_days == 7


def test_flag_wins_over_legacy_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRT_CALIB_LOOKBACK_DAYS", "30")
    assert load(IrtSettings, {"mirt_lookback_days": "7"}).mirt_lookback_days == 7


def test_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER_N_CLUSTERS", "")
    assert load(ClusterSettings).cluster_n_clusters is None


@pytest.mark.parametrize(
    ("said", "asked"), [("none", ()), ("r-irt-plumber, r-brms-plumber", ("r-irt-plumber", "r-brms-plumber"))]
)
def test_services_that_verify_asks_can_be_some_or_none(
    monkeypatch: pytest.MonkeyPatch, said: str, asked: tuple[str, ...]
) -> None:
    monkeypatch.setenv("VERIFY_SERVICES", said)
    assert load(VerifySettings).verify_services == asked


def test_service_that_verify_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFY_SERVICES", "r-irt-plumber,r-irt-plumbre")
    with pytest.raises(ConfigFault, match="VERIFY_SERVICES: .* got r-irt-plumbre"):
        load(VerifySettings)


def test_stages_that_verify_checks_can_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFY_STAGES", "none")
    assert load(VerifySettings).verify_stages == ()


def test_limits_of_freshness_are_read_by_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFY_MAX_AGE_HOURS", "fit-survival-churn=30, forecast-prophet=200")
    assert load(VerifySettings).max_age_hours == {"fit-survival-churn": 30, "forecast-prophet": 200}


@pytest.mark.parametrize("said", ["fit-survival-churn", "fit-survival-churn=0", "fit-survival-churn=two", "=48"])
def test_limit_of_freshness_that_is_no_number_of_hours_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("VERIFY_MAX_AGE_HOURS", said)
    with pytest.raises(ConfigFault, match="VERIFY_MAX_AGE_HOURS: must be stage=hours"):
        load(VerifySettings)


LEGACY = [
    ("IRT_CALIB_LOOKBACK_DAYS", IrtSettings, "mirt_lookback_days", "21", 21),
    ("IRT_MODEL", IrtSettings, "mirt_model", "1PL", "1PL"),
    ("LOOKBACK_WEEKS", GrowthSettings, "brms_lookback_weeks", "20", 20),
    ("BRMS_ITER", GrowthSettings, "brms_n_samples", "2000", 2000),
    ("BRMS_CHAINS", GrowthSettings, "brms_n_chains", "2", 2),
]


@pytest.mark.parametrize(("variable", "kind", "field", "text", "value"), LEGACY)
def test_legacy_alias_is_understood(
    monkeypatch: pytest.MonkeyPatch, variable: str, kind: type[Settings], field: str, text: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(load(kind), field) == value


def test_every_alias_is_tested_above() -> None:
    defined = {alias for kind in ALL_SETTINGS for info in kind.model_fields.values() for alias in aliases(info)}
    assert defined == {case[0] for case in LEGACY}


@pytest.mark.parametrize(("variable", "kind", "field", "text", "value"), LEGACY)
def test_new_name_wins_over_legacy_alias(
    monkeypatch: pytest.MonkeyPatch, variable: str, kind: type[Settings], field: str, text: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    default = str(kind.model_fields[field].default)
    monkeypatch.setenv(field.upper(), default)
    assert str(getattr(load(kind), field)) == default != str(value)


# What deployments were written against. A new default is a decision of its own: it changes numbers.
CONTRACT: list[tuple[type[Settings], str, tuple[str, ...], object]] = [
    (Settings, "DRY_RUN", (), False),
    (IrtSettings, "R_IRT_BASE_URL", (), HttpUrl("http://r-irt-plumber/")),
    (IrtSettings, "R_IRT_TIMEOUT_SECS", (), 300),
    (IrtSettings, "R_IRT_INTERNAL_TOKEN", (), SecretStr("")),
    (IrtSettings, "MIRT_LOOKBACK_DAYS", ("IRT_CALIB_LOOKBACK_DAYS",), 60),
    (IrtSettings, "MIRT_MODEL", ("IRT_MODEL",), "2PL"),
    (IrtSettings, "MIRT_MAX_OBS", (), 0),
    (IrtSettings, "MIRT_TOPIC_ID", (), None),
    (IrtSettings, "MIRT_MAX_RETRIES", (), 3),
    (IrtSettings, "MIRT_RETRY_DELAY_SECS", (), 5),
    (IrtSettings, "IRT_UPDATE_QUESTION_META", (), False),
    (ClusterSettings, "CLUSTER_LOOKBACK_WEEKS", (), 12),
    (ClusterSettings, "CLUSTER_N_CLUSTERS", (), None),
    (ClusterSettings, "CLUSTER_METHOD", (), "kmeans"),
    (
        ClusterSettings,
        "CLUSTER_FEATURES",
        (),
        ("engagement", "improvement", "efficiency", "recovery", "accuracy", "sessions"),
    ),
    (SurvivalSettings, "R_FORECAST_BASE_URL", (), HttpUrl("http://r-forecast-plumber/")),
    (SurvivalSettings, "R_FORECAST_TIMEOUT_SECS", (), 300),
    (SurvivalSettings, "R_FORECAST_INTERNAL_TOKEN", (), SecretStr("")),
    (SurvivalSettings, "SURVIVAL_LOOKBACK_DAYS", (), 90),
    (SurvivalSettings, "SURVIVAL_EVENT_THRESHOLD_DAYS", (), 14),
    (SurvivalSettings, "SURVIVAL_UPDATE_KPI", (), True),
    (ProphetSettings, "PROPHET_LOOKBACK_WEEKS", (), 12),
    (ProphetSettings, "PROPHET_FORECAST_WEEKS", (), 4),
    (ProphetSettings, "PROPHET_ANOMALY_THRESHOLD", (), 2.5),
    (ProphetSettings, "PROPHET_METRICS", (), ("I_t",)),
    (GrowthSettings, "R_BRMS_BASE_URL", (), HttpUrl("http://r-brms-plumber/")),
    (GrowthSettings, "R_BRMS_TIMEOUT_SECS", (), 1200),
    (GrowthSettings, "R_BRMS_INTERNAL_TOKEN", (), SecretStr("")),
    (GrowthSettings, "BRMS_LOOKBACK_WEEKS", ("LOOKBACK_WEEKS",), 12),
    (GrowthSettings, "BRMS_N_SAMPLES", ("BRMS_ITER",), 1000),
    (GrowthSettings, "BRMS_N_CHAINS", ("BRMS_CHAINS",), 4),
    (GrowthSettings, "BRMS_FAMILY", (), "gaussian"),
    (GrowthSettings, "BRMS_SCORE_SOURCE", (), "accuracy"),
    (GrowthSettings, "BRMS_SCORE_SCALE", (), "raw"),
    (GrowthSettings, "BRMS_UPDATE_KPI", (), True),
    (GrowthSettings, "METRICS_DEFAULT_TARGET", (), 0),
]


@pytest.mark.parametrize(("kind", "variable", "legacy", "default"), CONTRACT, ids=[case[1] for case in CONTRACT])
def test_default_and_aliases_are_those_of_the_contract(
    kind: type[Settings], variable: str, legacy: tuple[str, ...], default: object
) -> None:
    field = variable.lower()
    assert getattr(load(kind), field) == default
    assert tuple(aliases(kind.model_fields[field])) == legacy


def test_as_of_is_midnight_utc() -> None:
    assert load(Settings, {"as_of": "2025-11-02"}).as_of == datetime(2025, 11, 2, tzinfo=UTC)


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROPHET_METRICS", " I_t, A_t,")
    assert load(ProphetSettings).prophet_metrics == ("I_t", "A_t")


@pytest.mark.parametrize("field", ["database_url", "r_forecast_internal_token"])
def test_secret_loses_the_newline_that_a_heredoc_leaves(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setenv(field.upper(), "abc\n")
    assert getattr(load(SurvivalSettings), field).get_secret_value() == "abc"


def test_database_url_of_blanks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", " \n")  # libpq would go where its defaults lead
    with pytest.raises(ConfigFault, match="DATABASE_URL"):
        load(Settings)


BAD = [
    (IrtSettings, "mirt_lookback_days", "0"),
    (IrtSettings, "mirt_lookback_days", "many"),
    (IrtSettings, "mirt_model", "3PL"),
    (IrtSettings, "mirt_max_obs", "-1"),
    (IrtSettings, "r_irt_base_url", "r-irt-plumber:80:80"),
    (ClusterSettings, "cluster_n_clusters", "9"),
    (ClusterSettings, "cluster_features", "engagement,shoe_size"),
    (ClusterSettings, "cluster_features", "engagement,engagement"),
    (SurvivalSettings, "survival_event_threshold_days", "0"),
    (SurvivalSettings, "survival_update_kpi", "perhaps"),
    (ProphetSettings, "prophet_lookback_weeks", "7"),
    (ProphetSettings, "prophet_anomaly_threshold", "nan"),
    (ProphetSettings, "prophet_metrics", "Q_t"),
    (GrowthSettings, "brms_n_chains", "1"),
    (GrowthSettings, "brms_family", "poisson"),
    (Settings, "as_of", "last tuesday"),
    (Settings, "attempt_student_id_form", "sha1"),
    (Settings, "seed", "-1"),
]
BAD_IDS = [f"{field}={text}" for _, field, text in BAD]


@pytest.mark.parametrize(("kind", "field", "text"), BAD, ids=BAD_IDS)
def test_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, kind: type[Settings], field: str, text: str) -> None:
    monkeypatch.setenv(field.upper(), text)
    with pytest.raises(ConfigFault, match=field.upper()):
        load(kind)


@pytest.mark.parametrize(("kind", "field", "text"), BAD, ids=BAD_IDS)
def test_bad_flag_is_named(kind: type[Settings], field: str, text: str) -> None:
    with pytest.raises(UsageFault, match="--" + field.replace("_", "-")):
        load(kind, {field: text})


def test_all_bad_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRT_MODEL", "3PL")
    monkeypatch.setenv("MIRT_MAX_OBS", "-5")
    with pytest.raises(ConfigFault, match=r"MIRT_MODEL.*MIRT_MAX_OBS"):
        load(IrtSettings)


def test_missing_database_url_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    with pytest.raises(ConfigFault, match="DATABASE_URL: is not set"):
        load(Settings)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_any_text_is_a_value_or_a_named_fault(text: str) -> None:
    try:
        settings = load(GrowthSettings, {"brms_lookback_weeks": text})
    except UsageFault as fault:
        assert "--brms-lookback-weeks" in str(fault)  # noqa: PT017
    else:
        assert 3 <= settings.brms_lookback_weeks <= 520


@pytest.mark.parametrize("kind", ALL_SETTINGS)
def test_every_setting_is_described(kind: type[Settings]) -> None:
    assert all(item.description.endswith((".", "?")) for item in describe(kind))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_the_address_of_its_service_and_of_no_other(stage: str) -> None:
    info = STAGES[stage]
    read = {name for prefix, name in SERVICES.items() if f"{prefix.lower()}_base_url" in info.settings.model_fields}
    assert read == ({info.service} - {None})


@pytest.mark.parametrize("kind", ALL_SETTINGS)
def test_settings_never_print_a_secret(kind: type[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("R_IRT", "R_FORECAST", "R_BRMS"):
        monkeypatch.setenv(f"{prefix}_INTERNAL_TOKEN", "secret-word")
    settings = load(kind)
    assert "secret-word" not in repr(settings) + str(settings.model_dump())


@pytest.mark.parametrize("command", sorted(cli.COMMAND_SETTINGS))
def test_help_lists_every_setting_but_the_secrets(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(command, "--help") == 0
    shown = capsys.readouterr().out
    listed = {item.name for item in describe(cli.COMMAND_SETTINGS[command]) if "--" + _flag(item.name) in shown}
    assert listed == {item.name for item in describe(cli.COMMAND_SETTINGS[command]) if not item.secret}


def _flag(variable: str) -> str:
    return variable.lower().replace("_", "-")


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["fit-survival-churn", "--nope"], ExitCode.USAGE),
        (["no-such-stage"], ExitCode.USAGE),
        (["fit-survival-churn", "--survival-lookback-days", "3"], ExitCode.USAGE),
        (["simulate", "--learners", "0"], ExitCode.USAGE),
        (["calibrate-irt-weekly", "--mirt-model", "3PL"], ExitCode.USAGE),
    ],
)
def test_bad_command_line_ends_with_usage(argv: list[str], code: ExitCode) -> None:
    assert invoke(*argv) == code


def test_bad_variable_ends_with_config() -> None:
    assert invoke("forecast-prophet", env={"PROPHET_FORECAST_WEEKS": "0"}) == ExitCode.CONFIG
