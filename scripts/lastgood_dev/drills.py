"""What do drills show in the demo? That every engine's restore points come back, and what reading one back cannot see."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from .child import User, run, wait_until
from .customers import Customer, create_customer
from .forgery import give_list_of
from .mongodb import mongodb_program
from .operators import wait_for_end
from .postgres import Postgres, _link_or_copy, _unprivileged_user
from .redis import Flavour
from .repo import Failure, say
from .service import Lastgood, RestorePoint
from .session import Session

SECONDS_FOR_A_DRILL = 60
# Few of its rows: a backup half as large as the one before would be suspect at once.
INVOICES = "insert into invoices select id, id, id * 0.9 from generate_series(1, 300) id"
BILLING = f"""
    create table customers as select id, 'customer ' || id as name from generate_series(1, 5000) id;
    create table invoices (id int primary key, customer int not null, amount numeric not null);
    {INVOICES};
"""


def drill_settings(session: Session, postgres_bin: Path) -> dict[str, str]:
    """Returns where drills find servers of the kinds that the customers have, where these run, and who as, if we are root.

    Consumers run no drills until one is told to, with `--drill-slots`.
    """
    user = _unprivileged_user()
    programs = [Path(program.argv[0]) for program in (mongodb_program(), Flavour.VALKEY9.program())]
    dirs = [postgres_bin, *(_dir_for(user, program, session.run_dir / "programs") for program in programs)]
    return {
        "LASTGOOD_DRILL_SLOTS": "0",
        "LASTGOOD_DRILL_DIR": str(session.run_dir / "drills"),
        "LASTGOOD_DRILL_PROGRAM_DIRS": ":".join(str(folder) for folder in dirs),
        **({"LASTGOOD_DRILL_USER": f"{user.uid}:{user.gid}"} if user else {}),
    }


def _dir_for(user: User | None, program: Path, copies: Path) -> Path:
    """Returns the program's folder, or that of a copy where `user` cannot reach it."""
    if user is None or _can_run(user, program):
        return program.parent
    copy = copies / program.name
    for folder in (copies, copy):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # whatever the umask
    _link_or_copy(str(program), str(copy / program.name))
    return copy


def _can_run(user: User, program: Path) -> bool:
    try:
        return run([program, "--version"], user=user, cwd=Path("/")).returncode == 0
    except PermissionError:
        return False


def prove(lastgood: Lastgood, resources: Sequence[str]) -> None:
    """Drills the newest restore point of each; one that is not proven ends the script."""
    for resource in resources:
        lastgood.show("drill", "now", resource, "--wait")


def lose_rows(lastgood: Lastgood, catalog: Postgres, server: Postgres) -> RestorePoint:
    """Returns a restore point that lacks the rows of one table although every hash says that it is whole."""
    billing = create_customer(server, "billing")
    billing.psql(BILLING)
    about = ("--team", "acme", "--tier", "free", "--engine", "postgres")  # a tier that is drilled only when somebody asks
    lastgood.show("resource", "add", "billing", *about, "--url-stdin", stdin=billing.url)
    whole = _backup(lastgood)
    _type(billing, "delete from invoices")
    lacking = _backup(lastgood)
    _type(billing, INVOICES)
    with lastgood.paused("an archive is being changed"):  # whoever read it halfway would find it damaged
        give_list_of(whole, lacking, lastgood, catalog)
    say(
        "    the second archive gets the first one's list of contents, and manifest and catalog its new size and BLAKE3:\n"
        "    that is what a dump looks like that lost the rows of a table on its way\n"
    )
    return lacking


def find_lost_rows(lastgood: Lastgood, lacking: RestorePoint) -> None:
    """Reading the archive back finds nothing, and a drill does. It condemns nothing yet: the consumer may be to blame."""
    lastgood.show("verify", "--point", lacking.id, "--wait")
    lastgood.show_finding("drill", "now", "billing", "--wait", words=("DIFFERS", "public.invoices"))
    wait_until(lambda: _skipped(lastgood) != [], SECONDS_FOR_A_DRILL, "the second drill to be left to another consumer", pause=0.2)
    say(f"    a second drill was asked for, and not done: {_skipped(lastgood)[0]}")
    lastgood.show("point", "list", "billing")
    if _is_quarantined(lastgood, lacking):
        raise Failure(f"one consumer's finding should condemn nothing, and restore point {lacking.id} is quarantined")


def agree_and_replace(lastgood: Lastgood, lacking: RestorePoint) -> None:
    """Another consumer finds the same: the restore point is set aside and replaced, and its successor proven."""
    lastgood.show_finding("drill", "now", "billing", "--wait", words=("DIFFERS", "public.invoices"))
    wait_until(lambda: len(lastgood.restore_points("billing")) == 3, SECONDS_FOR_A_DRILL, "the backup that replaces it", pause=0.2)
    lastgood.show("point", "list", "billing")
    if not _is_quarantined(lastgood, lacking):
        raise Failure(f"two consumers agree, and restore point {lacking.id} is not quarantined")
    prove(lastgood, ("billing",))


def _backup(lastgood: Lastgood) -> RestorePoint:
    run_id = lastgood.ask_for("backup", "now", "billing")
    wait_for_end(lastgood, run_id, "succeeded")
    (made,) = [point for point in lastgood.restore_points("billing") if point.id == run_id]
    return made


def _type(customer: Customer, sql: str) -> None:
    say(f"  {customer.database}=> {sql};")
    customer.psql(sql)


def _skipped(lastgood: Lastgood) -> list[str]:
    """Returns why drills were not done."""
    drills = [run.id for run in lastgood.runs() if run.resource == "billing" and run.kind == "drill" and run.state == "succeeded"]
    reports = [lastgood.run_report(drill) for drill in drills]
    return [report["skipped"] for report in reports if "skipped" in report]


def _is_quarantined(lastgood: Lastgood, point: RestorePoint) -> bool:
    (found,) = [it for it in lastgood.restore_points(point.resource) if it.id == point.id]
    return found.is_quarantined
