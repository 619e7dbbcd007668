//! How a job fails: with the right kind, without showing a secret, and without leaving anything behind.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{
    clients::Toolbox,
    error::{ErrorKind, JobError},
    job::RestoreTarget,
    storage::Storage,
};

use crate::{
    lab::{Lab, Server, attempt, client_dirs, shows_no_secret, until},
    subject::{Subject, backup},
};

async fn fails(
    lab: &Lab,
    resource: &Subject,
    kind: ErrorKind,
    is_permanent: bool,
) -> Result<JobError> {
    let result = backup(attempt(), resource, None, &lab.worker).await;
    let error = result.err().context("the backup succeeded")?;
    shows_no_secret(&error)?;
    ensure!(
        error.kind() == kind,
        "{:?}: {}",
        error.kind(),
        error.report()
    );
    ensure!(error.is_permanent() == is_permanent, "{}", error.report());
    let files = lab.files()?;
    ensure!(files.is_empty(), "left behind: {files:?}");
    Ok(error)
}

#[tokio::test]
async fn a_wrong_password_is_final() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    let resource = lab.with_url(|url| {
        url.set_password(Some("hunter2-marker-wrong")).ok();
    })?;
    fails(&lab, &resource, ErrorKind::Auth, true).await?;
    lab.clean().await
}

#[tokio::test]
async fn a_database_that_is_gone_is_final_and_named() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    let resource = lab.with_url(|url| url.set_path("nowhere"))?;
    let error = fails(&lab, &resource, ErrorKind::Config, true).await?;
    assert!(error.to_string().contains("nowhere"));
    lab.clean().await
}

#[tokio::test]
async fn a_server_that_is_gone_may_come_back() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    // It was free a moment ago, so nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let resource = lab.with_url(|url| {
        url.set_port(Some(port)).ok();
    })?;
    fails(&lab, &resource, ErrorKind::Connect, false).await?;
    lab.clean().await
}

#[tokio::test]
async fn a_table_that_may_not_be_read_fails_the_backup_with_its_name() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.server
        .run(&lab.name, "create table hidden (a int)")
        .await?;
    let error = fails(&lab, &lab.resource, ErrorKind::Dump, true).await?;
    assert!(error.to_string().contains("hidden"), "{error}");
    lab.clean().await
}

#[tokio::test]
async fn the_tools_error_comes_first_whatever_it_prints_around_it() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    // A statement that locks thousands of tables is quoted in full, and any number of warnings may precede it.
    let script = "echo 'pg_dump: warning: something else' >&2
        echo 'pg_dump: error: query failed: ERROR:  permission denied for table hidden' >&2
        echo 'pg_dump: detail: Query was: LOCK TABLE' >&2
        for n in {1..4000}; do printf 'public.table_%s, ' $n; done >&2; exit 1";
    let _fake = with_fake_dump(&mut lab, script).await?;
    let error = fails(&lab, &lab.resource, ErrorKind::Dump, true).await?;
    let first = "pg_dump failed (exit status: 1): pg_dump: error: query failed: ERROR:  permission denied for table hidden | ";
    assert!(error.report().starts_with(first), "{error}");
    assert!(error.report().contains("something else"), "{error}");
    lab.clean().await
}

#[tokio::test]
async fn without_the_servers_own_version_of_the_tool_nothing_is_tried() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.worker.tools = Arc::new(Toolbox::only(&[]).await);
    let error = fails(&lab, &lab.resource, ErrorKind::Tool, true).await?;
    assert!(error.to_string().contains("found none at all"), "{error}");

    let older: Vec<PathBuf> = client_dirs()?
        .into_iter()
        .filter(|dir| !has_major(dir, 18))
        .collect();
    ensure!(
        !older.is_empty(),
        "name the directory of an older client in LASTGOOD_TEST_PG_CLIENT_DIRS"
    );
    lab.worker.tools = Arc::new(Toolbox::only(&older).await);
    let error = fails(&lab, &lab.resource, ErrorKind::Tool, true).await?;
    assert!(error.to_string().contains("17 in"), "{error}");
    assert!(
        error.to_string().contains("LASTGOOD_PG_CLIENT_DIRS"),
        "{error}"
    );
    lab.clean().await
}

fn has_major(directory: &Path, major: u32) -> bool {
    let said = Command::new(directory.join("pg_dump"))
        .arg("--version")
        .output();
    said.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains(&format!(") {major}.")))
}

/// Makes a directory with the real `pg_restore` and this script as `pg_dump`; `$REAL` is the real `pg_dump`.
pub(crate) async fn with_fake_dump(lab: &mut Lab, script: &str) -> Result<tempfile::TempDir> {
    with_fake(lab, "pg_dump", script).await
}

/// Makes a directory with this script as one of the tools, and with the other tool; `$REAL` is the real first one.
pub(crate) async fn with_fake(
    lab: &mut Lab,
    tool: &str,
    script: &str,
) -> Result<tempfile::TempDir> {
    let dirs = client_dirs()?;
    let real = dirs
        .iter()
        .find(|dir| has_major(dir, 18))
        .context("name the directory of an 18 client")?;
    let fake = tempfile::tempdir()?;
    for name in ["pg_dump", "pg_restore"] {
        let (real, path) = (real.join(name), fake.path().join(name));
        if name != tool {
            std::os::unix::fs::symlink(real, path)?;
            continue;
        }
        let real = real.display();
        let version = format!("case \"$1\" in --version) exec {real} --version;; esac");
        std::fs::write(
            &path,
            format!("#!/bin/bash\nREAL={real}\n{version}\n{script}\n"),
        )?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    }
    lab.worker.tools = Arc::new(Toolbox::only(&[fake.path().to_owned()]).await);
    Ok(fake)
}

#[tokio::test]
async fn a_dump_that_was_cut_is_refused_although_the_tool_says_success() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table a as select n from generate_series(1, 1000) n; create table b as select * from a").await?;
    for cut in ["-1", "-2000", "-6000"] {
        let script = format!("$REAL \"$@\" | /usr/bin/head -c {cut}; exit 0");
        let _fake = with_fake_dump(&mut lab, &script).await?;
        let error = fails(&lab, &lab.resource, ErrorKind::Dump, false).await?;
        assert!(
            error.report().contains("it ends at byte"),
            "{}",
            error.report()
        );
    }
    let _fake = with_fake_dump(&mut lab, "exit 0").await?;
    fails(&lab, &lab.resource, ErrorKind::Dump, false).await?;
    let _fake = with_fake_dump(&mut lab, "while :; do echo some other text; done").await?;
    fails(&lab, &lab.resource, ErrorKind::Dump, false).await?;
    lab.clean().await
}

#[tokio::test]
async fn a_tool_that_fails_or_prints_the_secret_is_quoted_without_it() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    let script = "$REAL \"$@\"; read -r line < $PGPASSFILE; echo \"who printed $line\" >&2; exit 7";
    let _fake = with_fake_dump(&mut lab, script).await?;
    let error = fails(&lab, &lab.resource, ErrorKind::Dump, false).await?;
    assert!(
        error
            .to_string()
            .contains("exit status: 7): who printed *:*:*:*:***"),
        "{error}"
    );
    lab.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_killed_in_mid_dump_fails_the_backup() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(
        "create table big as select n, repeat(md5(n::text), 8) t from generate_series(1, 400000) n",
    )
    .await?;
    let (resource, worker) = (lab.resource.clone(), lab.worker.clone());
    let running = tokio::spawn(async move { backup(attempt(), &resource, None, &worker).await });
    let kill = format!(
        "select count(pg_terminate_backend(pid))::text from pg_stat_activity \
         where datname = '{}' and application_name = 'lastgood' and query like 'COPY%'",
        lab.name
    );
    until("the dump's session is killed", || async {
        Ok(lab.server.ask("postgres", &kill).await? != "0")
    })
    .await?;
    let error = running.await?.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_permanent()),
        (ErrorKind::Dump, false),
        "{}",
        error.report()
    );
    shows_no_secret(&error)?;
    assert_eq!(lab.files()?, Vec::<String>::new());
    lab.clean().await
}

/// A file system of 4 MiB, unmounted on drop.
struct Tiny(tempfile::TempDir);

impl Tiny {
    /// Mounts it. If only root could and the test does not run as root, reports the skip and returns `None`.
    fn mount() -> Result<Option<Self>> {
        let at = tempfile::tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(at.path())
            .status()?;
        if !mounted.success() && std::fs::metadata("/proc/self")?.uid() != 0 {
            // Written past the test runner, which hides the output of a test that passes.
            writeln!(
                std::io::stderr(),
                "SKIPPED: a full store: only root can mount one"
            )?;
            return Ok(None);
        }
        ensure!(mounted.success(), "cannot mount a tiny file system");
        Ok(Some(Self(at)))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_store_fails_the_backup_and_is_said_to_be_full() -> Result<()> {
    let Some(tiny) = Tiny::mount()? else {
        return Ok(());
    };
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.worker.storage = Storage::open(&tiny.0.path().display().to_string().parse()?).await?;
    lab.run("create table big as select string_agg(md5(n::text || m::text), '') from generate_series(1, 400) n, generate_series(1, 2000) m group by n").await?;
    let error = fails(&lab, &lab.resource, ErrorKind::Storage, false).await?;
    assert!(error.to_string().contains("the store is full"), "{error}");
    let left = Command::new("find")
        .arg(tiny.0.path())
        .args(["-type", "f"])
        .output()?;
    assert_eq!(String::from_utf8(left.stdout)?, "");
    lab.clean().await
}

#[tokio::test]
async fn an_archive_with_a_flipped_bit_is_refused_before_the_target_is_touched() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table a as select n from generate_series(1, 1000) n")
        .await?;
    let point = lab.backup(attempt()).await?;
    let path = lab
        .store
        .path()
        .join("objects")
        .join(&point.manifest.archive.key);
    let mut bytes = std::fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes)?;
    let targets = [
        RestoreTarget::Swap {},
        RestoreTarget::InPlace {
            overwrite: "db-1".parse()?,
            merge: false,
        },
    ];
    for target in targets {
        let error = lab.restore(&point, target).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_permanent()),
            (ErrorKind::Corrupt, true),
            "{}",
            error.report()
        );
    }
    assert_eq!(lab.ask("select count(*)::text from a").await?, "1000");
    lab.has_no_other_database().await?;
    lab.clean().await
}
