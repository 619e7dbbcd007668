//! What these tests share: the programs of this machine, a directory for drills, and the processes in it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{
    attempt::RunId,
    scratch::{
        Drill, Flavour, RunAs, Scratch, ScratchSpace, ServerPrograms, StartError, Version,
        start_mongodb, start_postgres, start_redis,
    },
};
use secrecy::ExposeSecret as _;

use crate::lab::{client_dirs, until, variable};

/// Somebody who is not root, as the servers of these tests run.
const NOBODY: RunAs = RunAs {
    uid: 65534,
    gid: 65534,
};
pub(super) const GIB: u64 = 1 << 30;

/// The servers that the tests start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Postgres,
    Mongodb,
    Redis,
    Valkey,
}

pub(super) fn drill(dump_bytes: u64) -> Drill {
    Drill {
        run: RunId(uuid::Uuid::new_v4()),
        dump_bytes,
    }
}

/// A directory for drills, which is checked to be empty in the end.
pub(super) struct Place {
    _parent: tempfile::TempDir,
    pub(super) space: ScratchSpace,
}

impl Place {
    pub(super) fn new() -> Result<Self> {
        let parent = tempfile::tempdir()?;
        let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(parent.path(), passable)?;
        let space = space(&parent.path().join("drills"));
        Ok(Self {
            _parent: parent,
            space,
        })
    }

    /// Returns the processes that work below the directory.
    pub(super) fn processes(&self) -> Result<Vec<u32>> {
        processes_in(&self.space.dir)
    }

    /// Waits until no process and no file is left.
    pub(super) async fn is_empty(&self) -> Result<()> {
        until("nothing is left of the drill", || async {
            let is_empty = std::fs::read_dir(&self.space.dir)?.next().is_none();
            Ok(is_empty && self.processes()?.is_empty())
        })
        .await
    }
}

pub(super) fn space(dir: &Path) -> ScratchSpace {
    let is_root = std::fs::metadata("/proc/self")
        .is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
    ScratchSpace {
        dir: dir.to_owned(),
        max_bytes: GIB,
        run_as: is_root.then_some(NOBODY),
    }
}

pub(super) fn processes_in(dir: &Path) -> Result<Vec<u32>> {
    let dir = std::fs::canonicalize(dir)?;
    let pids =
        std::fs::read_dir("/proc")?.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    let works_there = |pid: &u32| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&dir))
    };
    Ok(pids.filter(works_there).collect())
}

/// Returns the programs of PostgreSQL 17 and 18, MongoDB 6.0, Redis 6.2 and Valkey 9.
pub(super) async fn programs() -> Result<ServerPrograms> {
    let mut directories = client_dirs()?;
    for name in ["MONGODB", "REDIS6", "VALKEY9"] {
        directories.extend(directory_of(&format!("LASTGOOD_TEST_{name}_PROGRAM"))?);
    }
    Ok(ServerPrograms::only(&directories).await)
}

/// Returns where a program is; `None` if this machine has none.
fn directory_of(name: &str) -> Result<Option<PathBuf>> {
    #[derive(serde::Deserialize)]
    struct Program {
        argv: Vec<PathBuf>,
    }
    let said = variable(name)?;
    if said.starts_with("skip: ") {
        return Ok(None);
    }
    let program: Program = serde_json::from_str(&said)?;
    let path = program.argv.first().and_then(|it| it.parent());
    Ok(Some(
        path.context("a program is in a directory")?.to_owned(),
    ))
}

pub(super) async fn start(kind: Kind, space: &ScratchSpace) -> Result<Scratch, StartError> {
    let programs = programs().await.unwrap_or_default();
    let drill = drill(1000);
    match kind {
        Kind::Postgres => {
            let properties = [("encoding", "UTF8"), ("collate", "C"), ("ctype", "C")];
            let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
            start_postgres(&programs, space, drill, 18, &properties.into()).await
        }
        Kind::Mongodb => start_mongodb(&programs, space, drill, Version(6, 0, 0)).await,
        Kind::Redis => start_redis(&programs, space, drill, Flavour::Redis, 9).await,
        Kind::Valkey => start_redis(&programs, space, drill, Flavour::Valkey, 80).await,
    }
}

/// Returns every password in the server's URLs.
pub(super) fn passwords(scratch: &Scratch) -> Result<Vec<String>> {
    let urls = [Some(scratch.url()), scratch.admin_url()];
    let password = |url: &secrecy::SecretString| {
        let url = url.expose_secret();
        let who = url.split_once("://")?.1.split_once('@')?.0;
        Some(who.split_once(':')?.1.to_owned())
    };
    let found: Vec<String> = urls.into_iter().flatten().filter_map(password).collect();
    ensure!(
        !found.is_empty() && found.iter().all(|it| it.len() >= 32),
        "passwords are long and random"
    );
    Ok(found)
}
