"""The systems of the platform's guide: names, schedules, ports and secrets that its readers rely on."""

from __future__ import annotations

SCHEDULES = {
    "calibrate-irt-weekly": "0 3 * * *",
    "cluster-segments": "0 7 1,15 * *",
    "fit-survival-churn": "0 5 * * *",
    "forecast-prophet": "0 5 * * 0",
    "fit-bayesian-growth": "0 6 * * 0",
}
"""CronJob -> schedule."""

SECRETS = {
    "calibrate-irt-weekly": "calibrate-irt-credentials",
    "cluster-segments": "seedtest-db-credentials",
    "fit-survival-churn": "r-forecast-credentials",
    "forecast-prophet": "r-forecast-credentials",
    "fit-bayesian-growth": "r-brms-credentials",
}
"""CronJob -> the Secret that the guide names for it."""

ONE_OFF = {"cluster-segments", "fit-bayesian-growth"}
"""CronJobs with a one-off Job, NAME-now."""

SERVICES = {"r-irt-plumber", "r-forecast-plumber", "r-brms-plumber"}
PORT, CONTAINER_PORT = 80, 8080
TOKEN_KEY = "token"  # noqa: S105 - the name of a key
COMBINED_EXTERNAL_SECRET = "externalsecret-r-services"  # noqa: S105 - the name of an object
SECRET_STORE = "gcp-secret-store"  # noqa: S105 - the name of an object
REFRESH_INTERVAL = "1h0m0s"
