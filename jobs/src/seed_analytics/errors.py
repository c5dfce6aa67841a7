"""Why a stage ended, and the exit code that tells Kubernetes whether to try again.

The codes are those of BSD's sysexits.h. The chart's ``podFailurePolicy`` reads them: 64, 65, 70, 76 and 78 fail the
Job at once, since a second try would end the same way; 69 and 75 are tried again. 143 is the shell's code for SIGTERM:
the pod was deleted or its node drained, which says nothing of the run, so it does not count as a try.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of ``seed-analytics``."""

    OK = 0
    """Done, or skipped for too little data (``analytics_runs.status`` says which)."""
    USAGE = 64
    """A flag is unknown or its value is out of range."""
    INPUT = 65
    """The platform's tables are not as agreed: a table, a column or a join is missing."""
    UNAVAILABLE = 69
    """PostgreSQL or an R service is down."""
    INTERNAL = 70
    """A defect of this program."""
    TRY_LATER = 75
    """Another run holds the lock, or an upstream table is stale."""
    REJECTED = 76
    """The fit did not pass its gate; nothing was published and the last good numbers stay."""
    CONFIG = 78
    """An environment variable is missing or wrong, or a service refuses the token."""
    STOPPED = 143
    """The run was told to stop (SIGTERM)."""


class StageError(Exception):
    """A run ended without publishing. The message is a sentence for whoever is on call."""

    exit_code = ExitCode.INTERNAL


class UsageFault(StageError):
    """A command-line flag is unknown or out of range."""

    exit_code = ExitCode.USAGE


class InputFault(StageError):
    """The platform's tables break the input contract."""

    exit_code = ExitCode.INPUT


class Unavailable(StageError):
    """PostgreSQL or an R service does not answer, or answers what cannot be used."""

    exit_code = ExitCode.UNAVAILABLE


class TryLater(StageError):
    """The run cannot start or go on now, but may do so later."""

    exit_code = ExitCode.TRY_LATER


class Stopped(KeyboardInterrupt):
    """The process was told to stop. Of this kind, since psycopg then cancels the statement that the server is at."""


class Rejected(StageError):
    """The fit is not fit to publish."""

    exit_code = ExitCode.REJECTED


class ConfigFault(StageError):
    """A setting is missing or wrong."""

    exit_code = ExitCode.CONFIG


class TooLittleData(StageError):
    """There is nothing to fit yet: the run is recorded as skipped, which is no failure."""

    exit_code = ExitCode.OK
