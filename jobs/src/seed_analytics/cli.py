"""The command ``seed-analytics STAGE``: flags are the settings' names, errors end with the exit codes of errors.py."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, get_args, get_origin

import click
import structlog

from seed_analytics import __version__, logs
from seed_analytics.errors import ExitCode, StageError, Stopped
from seed_analytics.settings import (
    STAGES,
    ReportSettings,
    SettingInfo,
    Settings,
    VerifySettings,
    describe,
    env_name,
    is_secret,
    load,
)

COMMAND_SETTINGS: dict[str, type[Settings]] = {
    "migrate": Settings,
    "check-inputs": Settings,
    **{name: stage.settings for name, stage in STAGES.items()},
    "verify": VerifySettings,
    "report": ReportSettings,
    "simulate": Settings,
}
"""Every command that reads settings, and which."""

INTERRUPTED = 130  # the shell's convention for Ctrl-C


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="seed-analytics")
def cli() -> None:
    """Turn a log of learners' answers into numbers that teachers act on.

    Every option is also an environment variable of the same name (--mirt-model: MIRT_MODEL); DATABASE_URL and the
    services' tokens come from the environment only. Exit codes: 0 done or skipped, 64 usage, 65 input contract broken,
    69 a service is down, 70 defect, 75 try later, 76 rejected by the gate, 78 configuration,
    143 told to stop.
    """


def _flags(settings: type[Settings]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one flag a setting; a flag that is not given leaves the word to the environment."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for field, info in reversed(settings.model_fields.items()):
            if is_secret(info):
                continue
            flag = "--" + field.replace("_", "-")
            default = next(item.default for item in describe(settings) if item.name == env_name(field))
            text = f"{info.description} [{env_name(field)}{'; default ' + default if default else ''}]"
            if info.annotation is bool:
                option = click.option(f"{flag}/--no-{flag[2:]}", field, default=None, help=text)
            elif get_origin(info.annotation) is not None and all(isinstance(a, str) for a in get_args(info.annotation)):
                option = click.option(flag, field, type=click.Choice(get_args(info.annotation)), help=text)
            else:
                option = click.option(flag, field, metavar="VALUE", help=text)
            function = option(function)
        return function

    return decorate


def _settings(kind: type[Settings], flags: dict[str, Any]) -> Any:
    settings = load(kind, {name: value for name, value in flags.items() if value is not None})
    logs.configure(settings.log_format)
    return settings


def _add_stage(name: str) -> None:
    @cli.command(name, help=STAGES[name].summary)
    @_flags(STAGES[name].settings)
    def command(**flags: Any) -> ExitCode:
        from seed_analytics.run import execute  # noqa: PLC0415 - scikit-learn loads only for the stage that needs it
        from seed_analytics.stages import load as load_stage  # noqa: PLC0415

        return execute(load_stage(name), _settings(STAGES[name].settings, flags))


for _name in STAGES:
    _add_stage(_name)


@cli.command()
@click.option("--with-platform-tables", is_flag=True, help="Also create the platform's tables (local runs and tests).")
@click.option("--revision", default="head", show_default=True, help="Alembic revision, head or base.")
@_flags(Settings)
def migrate(with_platform_tables: bool, revision: str, **flags: Any) -> None:
    """Create or alter the output tables (Alembic)."""
    from seed_analytics import db, migrations  # noqa: PLC0415

    url = _settings(Settings, flags).database_url.get_secret_value()
    with db.translated(), db.connect(url, application="seed-analytics/migrate") as conn:
        if with_platform_tables:
            from seed_analytics.platform_tables import create_platform_tables  # noqa: PLC0415

            create_platform_tables(conn)
        before = migrations.current(conn)
        migrations.migrate(url, revision)
        structlog.get_logger().info(f"Output tables at revision {migrations.current(conn)} (was {before})")


@cli.command("check-inputs")
@_flags(Settings)
def check_inputs(**flags: Any) -> Any:
    """Check the platform's tables, columns and ids before anything is fitted."""
    from seed_analytics.check_inputs import check  # noqa: PLC0415

    return check(_settings(Settings, flags))


@cli.command()
@_flags(VerifySettings)
def verify(**flags: Any) -> ExitCode:
    """Check services, the guide's queries, and the freshness of every stage."""
    from seed_analytics.verify import verify as run  # noqa: PLC0415

    return run(_settings(VerifySettings, flags))


@cli.command()
@_flags(ReportSettings)
def report(**flags: Any) -> None:
    """Write the newest numbers as one self-contained HTML page."""
    from seed_analytics.report import write_report  # noqa: PLC0415

    settings = _settings(ReportSettings, flags)
    path: Path = write_report(settings)
    click.echo(path)


@cli.command()
@click.option("--learners", type=click.IntRange(1, 10_000_000), default=500, show_default=True)
@click.option("--weeks", type=click.IntRange(1, 520), default=16, show_default=True)
@click.option("--if-empty", is_flag=True, help="Do nothing where the log already has rows.")
@_flags(Settings)
def simulate(learners: int, weeks: int, if_empty: bool, **flags: Any) -> None:
    """Fill the platform's tables with simulated learners; the truth goes to schema simulated_truth."""
    from seed_analytics import db, platform_tables  # noqa: PLC0415
    from seed_analytics.simulate import simulate as run  # noqa: PLC0415

    settings = _settings(Settings, flags)
    url = settings.database_url.get_secret_value()
    with (
        logs.progress(f"simulating {learners} learners", log_format=settings.log_format),
        db.translated(),
        db.connect(url, application="seed-analytics/simulate") as conn,
    ):
        if if_empty and platform_tables.filled(conn):
            structlog.get_logger().info("The platform's tables have rows already; they are left as they are")
            return
        counts = run(conn, learners=learners, weeks=weeks, seed=settings.seed, end=settings.as_of)
    structlog.get_logger().info("Simulated " + ", ".join(f"{count} {name}" for name, count in counts.items()))


@cli.command("load")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_flags(Settings)
def load_data_set(directory: Path, **flags: Any) -> None:
    """Fill the platform's tables from their exports or a public data set; dates are shifted to end now."""
    from seed_analytics import datasets, db  # noqa: PLC0415

    settings = _settings(Settings, flags)
    with (
        db.translated(),
        db.connect(settings.database_url.get_secret_value(), application="seed-analytics/load") as conn,
    ):
        counts = datasets.load(conn, directory, settings.as_of or db.present(conn))
    structlog.get_logger().info("Loaded " + ", ".join(f"{count} {name}" for name, count in counts.items()))


@cli.command()
@click.option("--learners", type=click.IntRange(20, 1_000_000), default=500, show_default=True)
@click.option("--weeks", type=click.IntRange(1, 520), default=16, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, help="Of the simulation.")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A public data set instead."
)
@click.option("--keep", is_flag=True, help="Leave the database and the services running; `stop` ends them.")
def demo(learners: int, weeks: int, seed: int, data: Path | None, keep: bool) -> ExitCode:
    """Run the whole pipeline on this machine, from an empty database to the report."""
    from seed_analytics.demo import demo as run  # noqa: PLC0415

    return run(learners=learners, weeks=weeks, seed=seed, data=data, keep=keep)


@cli.command()
def stop() -> ExitCode:
    """End what `demo --keep` left running."""
    from seed_analytics.demo import stop as run  # noqa: PLC0415

    return run()


@cli.command("settings")
@click.option("--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", show_default=True)
def show_settings(form: str) -> None:
    """List every setting of every command."""
    listed = {name: describe(kind) for name, kind in COMMAND_SETTINGS.items()}
    if form == "json":
        click.echo(
            json.dumps({name: [item.model_dump() for item in items] for name, items in listed.items()}, indent=2)
        )
    elif form == "markdown":
        click.echo(settings_table())
    else:
        for name, items in listed.items():
            click.echo(name)
            for item in items:
                click.echo(f"  {item.name:32} {item.default:24} {item.description}")


def settings_table() -> str:
    """Return all settings as one Markdown table, each once, with the commands that read it."""
    common = {item.name for item in describe(Settings)}
    users: dict[str, list[str]] = {}
    items: dict[str, SettingInfo] = {}
    for command, kind in COMMAND_SETTINGS.items():
        for item in describe(kind):
            items.setdefault(item.name, item)
            users.setdefault(item.name, []).append(command)
    lines = ["| setting | default | meaning | read by |", "|---|---|---|---|"]
    for name, item in items.items():
        also = f" (also `{'`, `'.join(item.aliases)}`)" if item.aliases else ""
        default = "*required*" if item.required else f"`{item.default}`" if item.default else ""
        who = "all" if name in common else ", ".join(users[name])
        lines.append(f"| `{name}`{also} | {default} | {item.description} | {who} |")
    return "\n".join(lines)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGTERM into Stopped, once: transactions roll back, runs are recorded, and nothing disturbs that end.

    As PID 1 of a container the process would not even hear it otherwise.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise Stopped("The run was told to stop (SIGTERM).")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    """Run the command line and end with its exit code."""
    logs.configure()
    log = structlog.get_logger()
    try:
        with _stoppable():
            code = cli(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        code = ExitCode.USAGE
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        # click makes an Abort of every KeyboardInterrupt.
        told = next((each for each in (error, error.__cause__) if isinstance(each, Stopped)), None)
        log.error(str(told or "Interrupted"))
        code = ExitCode.STOPPED if told else INTERRUPTED
    except StageError as error:
        log.error(logs.redact(str(error)), exit_code=int(error.exit_code), cause=type(error).__name__)
        code = error.exit_code
    except Exception as error:
        log.exception(f"A defect of seed-analytics: {type(error).__name__}", exit_code=int(ExitCode.INTERNAL))
        code = ExitCode.INTERNAL
    sys.exit(int(code or 0))


if __name__ == "__main__":
    main()
