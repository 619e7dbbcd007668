//! A drill proves a restore point, tells what is missing by its name, and condemns nothing for a fault that is not its own.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use lastgood_jobs::{
    backup::RestorePoint,
    contents::Fact,
    drill::{Drilled, Drills, Outcome, Unproven, drill},
    error::JobError,
    scratch::{RunAs, ScratchSpace, ServerPrograms},
    sought::Sought,
    worker::{Progress, Worker},
};
use rstest::rstest;

use crate::lab::{Lab, Server, attempt, client_dirs, shows_no_secret, variable};

/// Drills in a private directory, with the servers of the tests' own machine.
pub(crate) struct Ground {
    pub(crate) drills: Drills,
    dir: tempfile::TempDir,
}

impl Ground {
    pub(crate) async fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        // PostgreSQL's server runs as another user where the tests run as root.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711))?;
        let run_as = rustix::process::geteuid().is_root().then_some(RunAs {
            uid: 65534,
            gid: 65534,
        });
        let space = ScratchSpace {
            dir: dir.path().join("drills"),
            max_bytes: 1 << 34,
            run_as,
        };
        let programs = ServerPrograms::only(&program_dirs()?).await;
        Ok(Self {
            drills: Drills { programs, space },
            dir,
        })
    }

    /// The same on a machine without servers.
    pub(crate) async fn without_servers() -> Result<Self> {
        let mut ground = Self::new().await?;
        ground.drills.programs = ServerPrograms::default();
        Ok(ground)
    }

    /// Drills a point, and checks that nothing is left of it.
    pub(crate) async fn drill(
        &self,
        point: &RestorePoint,
        worker: &Worker,
    ) -> Result<Drilled, JobError> {
        let worker = Worker {
            progress: Arc::new(Progress::default()),
            ..worker.clone()
        };
        let sought = Sought::at(&point.manifest_key);
        let drilled = drill(attempt(), &sought, &self.drills, &worker).await;
        if let Err(error) = &drilled {
            assert!(shows_no_secret(error).is_ok());
        }
        lastgood_jobs::detached::settled().await;
        assert_eq!(self.left(), Vec::<PathBuf>::new());
        drilled
    }

    /// Returns what drills have left behind.
    fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path().join("drills"));
        let entries = entries.into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

/// The directories that hold the tests' own servers.
fn program_dirs() -> Result<Vec<PathBuf>> {
    let mut dirs = client_dirs()?;
    for name in [
        "LASTGOOD_TEST_MONGODB_PROGRAM",
        "LASTGOOD_TEST_REDIS6_PROGRAM",
        "LASTGOOD_TEST_VALKEY9_PROGRAM",
    ] {
        let program: serde_json::Value = serde_json::from_str(&variable(name)?)?;
        let path = program
            .pointer("/argv/0")
            .and_then(serde_json::Value::as_str);
        let path = path.context("no program")?;
        let dir = PathBuf::from(path);
        dirs.push(dir.parent().context("no directory")?.to_owned());
    }
    Ok(dirs)
}

/// Tables of several kinds, sequences, views, functions, a matview and large objects.
const SHOP: &str = r#"
create schema "Odd ""Schema";
create table customers (id bigserial primary key, name text not null, born timestamptz, photo bytea, balance numeric(12, 2));
insert into customers (name, born, photo, balance)
    select 'c' || n || E'\n\t\\', '2020-01-01 00:00+02'::timestamptz + n * interval '1 h', decode(md5(n::text), 'hex'), n / 7.0
    from generate_series(1, 1000) n;
create table orders (id int generated always as identity, customer bigint references customers, note text) partition by range (id);
create table orders_1 partition of orders for values from (0) to (500);
create table orders_2 partition of orders for values from (500) to (maxvalue);
insert into orders (customer, note) select n, repeat('x', n % 300) from generate_series(1, 900) n;
create index orders_by_note on orders (note, customer);
create table "Odd ""Schema"."an ""odd"" (table)" ("a (b)" text, c int);
alter table "Odd ""Schema"."an ""odd"" (table)" add constraint positive check (c > 0) not valid;
insert into "Odd ""Schema"."an ""odd"" (table)" select '\.', 1 from generate_series(1, 3);
insert into "Odd ""Schema"."an ""odd"" (table)" values ('', 5), (null, 6);
create table empty_one (one text);
create table one_column (one text);
insert into one_column values (''), ('\.'), ('a'), (null);
create sequence steps increment 5; select nextval('steps'), nextval('steps');
create sequence never_used;
create view rich as select * from customers where balance > 100;
create materialized view names as select name from customers;
create materialized view later as select name from customers with no data;
create function double(x int) returns int language sql immutable as 'select x * 2';
create function double(x text) returns text language sql immutable as 'select x || x';
create index on customers (double(id::int));
create type mood as enum ('good', 'bad');
create domain small as int check (value < 10);
comment on table customers is 'who pays';
select lo_from_bytea(0, decode(repeat('ab', 5000), 'hex')), lo_from_bytea(0, '\x01');
alter table customers enable row level security;
create policy all_of_them on customers using (true);
"#;

async fn shop() -> Result<(Lab, RestorePoint)> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(SHOP).await?;
    // Settings of the database change how values are printed.
    let settings = format!(
        "alter database \"{0}\" set timezone = 'Asia/Tokyo'; alter database \"{0}\" set bytea_output = 'escape'",
        lab.name
    );
    lab.server.run("postgres", &settings).await?;
    let point = lab.backup(attempt()).await?;
    Ok((lab, point))
}

#[tokio::test]
async fn a_postgres_point_is_proven_item_by_item() -> Result<()> {
    let (lab, point) = shop().await?;
    let ground = Ground::new().await?;
    let drilled = ground.drill(&point, &lab.worker).await?;
    assert_eq!(drilled.outcome, Outcome::Proven, "{drilled:#?}");
    let comparison = drilled.comparison.context("nothing was compared")?;
    assert_eq!(
        comparison.records,
        1000 + 900 + 5 + 4 + 2,
        "{comparison:#?}"
    );
    assert_eq!(comparison.left_out_items, 0, "{comparison:#?}");
    for kind in [
        "table data",
        "sequence value",
        "index",
        "materialized view data",
        "function",
        "policy",
    ] {
        assert!(
            comparison.compared.contains_key(kind),
            "{kind}: {comparison:#?}"
        );
    }
    let recorded = point.manifest.contents.context("nothing was recorded")?;
    assert_eq!(recorded.items["table data"], 6);
    assert!(drilled.seconds.restore > 0.0 && drilled.seconds.check > 0.0);
    assert!(
        drilled
            .server
            .is_some_and(|it| it.starts_with("PostgreSQL 18"))
    );
    lab.clean().await
}

/// Gives the archive of one point the list of contents of another: what a dump that lost something looks like, to which
/// every hash agrees.
pub(crate) fn forge(
    store: &Path,
    dump: &RestorePoint,
    list: &RestorePoint,
) -> Result<RestorePoint> {
    let frame_of = |point: &RestorePoint| -> Result<(Vec<u8>, Vec<u8>)> {
        let bytes = std::fs::read(store.join("objects").join(&*point.manifest.archive.key))?;
        let recorded = point.manifest.contents.as_ref();
        let size = recorded.context("nothing was recorded")?.size_bytes;
        let (dump, frame) = bytes.split_at(bytes.len() - usize::try_from(size)?);
        Ok((dump.to_vec(), frame.to_vec()))
    };
    let (mut archive, _) = frame_of(dump)?;
    archive.extend(frame_of(list)?.1);
    let mut forged = dump.clone();
    forged.manifest.archive.size_bytes = archive.len() as u64;
    forged.manifest.archive.blake3 = blake3::hash(&archive).to_hex().to_string();
    forged.manifest.contents.clone_from(&list.manifest.contents);
    let path = |key: &str| store.join("objects").join(key);
    std::fs::write(path(&forged.manifest.archive.key), archive)?;
    std::fs::write(
        path(&forged.manifest_key),
        serde_json::to_vec(&forged.manifest)?,
    )?;
    Ok(forged)
}

/// Checks that a drill found exactly this difference among the items of that kind and name.
pub(crate) fn differs_in(drilled: &Drilled, kind: &str, name: &str, fact: Fact) {
    assert!(
        matches!(drilled.outcome, Outcome::Differs { .. }),
        "{drilled:#?}"
    );
    let found = drilled.comparison.iter().flat_map(|it| &it.differences);
    let found = found.filter(|it| it.kind == kind && it.name == name);
    assert_eq!(
        found.map(|it| it.fact).collect::<Vec<_>>(),
        [fact],
        "{drilled:#?}"
    );
}

pub(crate) fn is_not_possible(drilled: &Drilled, because: Unproven) {
    assert!(
        matches!(drilled.outcome, Outcome::NotPossible { reason, .. } if reason == because),
        "{drilled:#?}"
    );
}

#[rstest]
#[case::a_tables_rows(
    "delete from one_column",
    "table data",
    "public.one_column",
    Fact::Count
)]
#[case::one_row(
    "update customers set name = 'other' where id = 7",
    "table data",
    "public.customers",
    Fact::Hash
)]
#[case::a_step_of_a_sequence(
    "select nextval('steps')",
    "sequence value",
    "public.steps",
    Fact::Value
)]
#[case::an_index(
    "drop index orders_by_note cascade",
    "index",
    "public.orders_by_note",
    Fact::Existence
)]
#[case::a_view("drop view rich", "view", "public.rich", Fact::Existence)]
#[case::a_function(
    "drop function double(text)",
    "function",
    "public.double(text)",
    Fact::Existence
)]
#[case::a_matview_that_was_filled(
    "refresh materialized view later",
    "materialized view data",
    "public.later",
    Fact::Existence
)]
#[case::a_constraint_that_was_checked(
    "delete from \"Odd \"\"Schema\".\"an \"\"odd\"\" (table)\" where c is null; alter table \"Odd \"\"Schema\".\"an \"\"odd\"\" (table)\" validate constraint positive",
    "check constraint",
    "Odd \"Schema.an \"odd\" (table) positive",
    Fact::Existence
)]
#[case::a_large_object(
    "select lo_unlink(oid) from pg_largeobject_metadata order by oid limit 1",
    "large objects",
    "all",
    Fact::Count
)]
#[tokio::test]
async fn what_a_dump_lost_is_told_by_its_name(
    #[case] change: &str,
    #[case] kind: &str,
    #[case] name: &str,
    #[case] fact: Fact,
) -> Result<()> {
    let (lab, whole) = shop().await?;
    lab.run(change).await?;
    let less = lab.backup(attempt()).await?;
    let forged = forge(lab.store.path(), &less, &whole)?;
    // Reading it back sees nothing: every hash agrees.
    lastgood_jobs::verify::verify(&Sought::at(&forged.manifest_key), &lab.worker).await?;
    let drilled = Ground::new().await?.drill(&forged, &lab.worker).await?;
    let Outcome::Differs { because } = &drilled.outcome else {
        panic!("{drilled:#?}");
    };
    assert!(because.contains(name), "{because}");
    differs_in(&drilled, kind, name, fact);
    lab.clean().await
}

#[tokio::test]
async fn a_point_without_a_list_is_not_possible_to_prove() -> Result<()> {
    let (lab, mut point) = shop().await?;
    point.manifest.contents = None;
    let path = lab.store.path().join("objects").join(&point.manifest_key);
    std::fs::write(path, serde_json::to_vec(&point.manifest)?)?;
    let drilled = Ground::new().await?.drill(&point, &lab.worker).await?;
    is_not_possible(&drilled, Unproven::NothingRecorded);
    lab.clean().await
}

#[tokio::test]
async fn a_consumer_without_the_server_or_the_room_proves_and_condemns_nothing() -> Result<()> {
    let (lab, point) = shop().await?;
    let mut ground = Ground::new().await?;
    let programs = std::mem::take(&mut ground.drills.programs);
    let drilled = ground.drill(&point, &lab.worker).await?;
    let Outcome::NotPossible { reason, because } = &drilled.outcome else {
        panic!("{drilled:?}");
    };
    assert_eq!(*reason, Unproven::NoServer);
    assert!(because.contains("PostgreSQL 18"), "{because}");
    ground.drills.programs = programs;
    ground.drills.space.max_bytes = 1000;
    let drilled = ground.drill(&point, &lab.worker).await?;
    is_not_possible(&drilled, Unproven::TooLarge);
    lab.clean().await
}

#[tokio::test]
async fn a_damaged_archive_is_an_error_as_in_a_verification() -> Result<()> {
    let (lab, point) = shop().await?;
    let path = lab
        .store
        .path()
        .join("objects")
        .join(&*point.manifest.archive.key);
    let mut bytes = std::fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes)?;
    let error = Ground::new().await?.drill(&point, &lab.worker).await;
    assert!(matches!(error, Err(JobError::Damaged { .. })), "{error:?}");
    lab.clean().await
}

/// A check that reads another table fails while that table is empty.
#[tokio::test]
async fn a_dump_that_no_server_takes_is_failed_and_says_why() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(
        "create table b (x int); insert into b values (1); \
         create function has_b() returns boolean language sql as 'select exists (select from public.b)'; \
         create table a (x int check (has_b())); insert into a values (1)",
    )
    .await?;
    let point = lab.backup(attempt()).await?;
    let drilled = Ground::new().await?.drill(&point, &lab.worker).await?;
    let Outcome::Failed { because } = &drilled.outcome else {
        panic!("{drilled:#?}");
    };
    assert!(because.contains("check constraint"), "{because}");
    lab.clean().await
}

/// Roles are not in a dump, and a policy names them.
#[tokio::test]
async fn a_policy_for_a_role_that_is_not_here_is_not_possible_to_prove() -> Result<()> {
    let (lab, _) = shop().await?;
    let policy = format!(
        "create policy theirs on customers to \"{0}\" using (true)",
        lab.name
    );
    lab.run(&policy).await?;
    let point = lab.backup(attempt()).await?;
    let drilled = Ground::new().await?.drill(&point, &lab.worker).await?;
    is_not_possible(&drilled, Unproven::EnvironmentAbsent);
    lab.clean().await
}

/// The archive is as it was written, so this says nothing against the dump.
#[tokio::test]
async fn a_list_that_cannot_be_read_condemns_nothing() -> Result<()> {
    let (lab, point) = shop().await?;
    let path = lab
        .store
        .path()
        .join("objects")
        .join(&*point.manifest.archive.key);
    let mut archive = std::fs::read(&path)?;
    let recorded = point.manifest.contents.as_ref().context("no list")?;
    let list = archive.len() - usize::try_from(recorded.size_bytes)?;
    // Its length and all that the store knows of it stay.
    for byte in archive.iter_mut().skip(list + 8) {
        *byte = b'x';
    }
    let mut forged = point.clone();
    forged.manifest.archive.blake3 = blake3::hash(&archive).to_hex().to_string();
    std::fs::write(path, archive)?;
    let manifest = lab.store.path().join("objects").join(&forged.manifest_key);
    std::fs::write(manifest, serde_json::to_vec(&forged.manifest)?)?;
    let drilled = Ground::new().await?.drill(&forged, &lab.worker).await?;
    is_not_possible(&drilled, Unproven::UnreadableList);
    lab.clean().await
}

/// What the role of the restore may not create, its own server may not have created either.
#[tokio::test]
async fn what_needs_a_superuser_is_not_possible_to_prove() -> Result<()> {
    let lab = Lab::superuser(Server::pg18()?).await?;
    lab.run(
        "create function told() returns event_trigger language plpgsql as 'begin end'; \
         create event trigger tell on ddl_command_end execute function told()",
    )
    .await?;
    let point = lab.backup(attempt()).await?;
    let drilled = Ground::new().await?.drill(&point, &lab.worker).await?;
    is_not_possible(&drilled, Unproven::NeedsSuperuser);
    lab.clean().await
}

#[tokio::test]
async fn extensions_come_back_where_they_were() -> Result<()> {
    let lab = Lab::superuser(Server::pg18()?).await?;
    lab.run(
        "create schema tools; create extension vector schema tools; \
         create table things (id serial, at tools.vector(2)); insert into things (at) values ('[1,2]'), ('[3,4]'); \
         create index on things using hnsw (at tools.vector_l2_ops)",
    )
    .await?;
    let point = lab.backup(attempt()).await?;
    let drilled = Ground::new().await?.drill(&point, &lab.worker).await?;
    assert_eq!(drilled.outcome, Outcome::Proven, "{drilled:#?}");
    let comparison = drilled.comparison.context("nothing was compared")?;
    assert!(comparison.compared["extension"] >= 2, "{comparison:#?}");
    lab.clean().await
}
