//! Which server programs are on this machine, and which of them can hold a dump?

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::error::NotPossible;
use crate::{
    clients::{parse_version, places, said_of_version},
    names::Engine,
};

/// A server's version: major, minor and patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version(pub u32, pub u32, pub u32);

/// Redis or Valkey: from 2024 on, each has formats that the other cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// Redis, and servers that only call themselves so.
    Redis,
    /// Valkey.
    Valkey,
}

/// The server programs found on this machine.
#[derive(Debug, Clone, Default)]
pub struct ServerPrograms {
    postgres: BTreeMap<u32, Postgres>,
    mongodb: BTreeMap<Version, PathBuf>,
    redis: BTreeMap<(Flavour, Version), PathBuf>,
}

/// One version of PostgreSQL's server, in one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Postgres {
    pub(super) initdb: PathBuf,
    pub(super) server: PathBuf,
    /// Such as `18.6`.
    version: String,
}

impl ServerPrograms {
    /// Looks for server programs where [`Toolbox::discover`](crate::clients::Toolbox::discover) looks for client tools:
    /// in the `first` directories, the usual places and the `last` directories, in this order. Runs each once for its
    /// version.
    ///
    /// If several directories have the same version (of PostgreSQL: the same major version), the first wins.
    pub async fn discover(first: &[PathBuf], last: &[PathBuf]) -> Self {
        Self::only(&places(first, last)).await
    }

    /// Looks for server programs in these directories only.
    pub async fn only(directories: &[PathBuf]) -> Self {
        let mut found = Self::default();
        for directory in directories {
            found.look_in(directory).await;
        }
        found
    }

    /// Returns whether any server of the engine was found.
    #[must_use]
    pub fn has(&self, engine: Engine) -> bool {
        match engine {
            Engine::Postgres | Engine::Vector => !self.postgres.is_empty(),
            Engine::Mongodb => !self.mongodb.is_empty(),
            Engine::Redis => !self.redis.is_empty(),
        }
    }

    /// Returns each server that was found, with its version and program.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        let one = |what: String, path: &Path| format!("{what} in {}", path.display());
        let postgres = self
            .postgres
            .values()
            .map(|it| one(format!("PostgreSQL {}", it.version), &it.server));
        let mongodb = self
            .mongodb
            .iter()
            .map(|(version, path)| one(format!("MongoDB {version}"), path));
        let redis = self
            .redis
            .iter()
            .map(|((flavour, version), path)| one(format!("{flavour} {version}"), path));
        postgres.chain(mongodb).chain(redis).collect()
    }

    async fn look_in(&mut self, directory: &Path) {
        let (initdb, postgres) = (directory.join("initdb"), directory.join("postgres"));
        if let (Some((major, of_initdb)), Some((of_server, version))) = (
            postgres_version(&initdb).await,
            postgres_version(&postgres).await,
        ) {
            if major == of_server && of_initdb == version {
                self.postgres.entry(major).or_insert(Postgres {
                    initdb,
                    server: postgres,
                    version,
                });
            } else {
                tracing::warn!(directory = %directory.display(), "initdb and postgres differ in version: this directory is not used");
            }
        }
        let mongod = directory.join("mongod");
        if let Some(version) = version_in(&mongod, "db version v").await {
            self.mongodb.entry(version).or_insert(mongod);
        }
        for flavour in [Flavour::Redis, Flavour::Valkey] {
            let program = directory.join(flavour.program());
            // Valkey's package may come with a link from Redis's name.
            let version = version_in(&program, flavour.says()).await;
            if let Some(version) = version {
                self.redis.entry((flavour, version)).or_insert(program);
            }
        }
    }

    /// Returns the server of exactly this major version: an older one cannot read the dump, and in a newer one its
    /// tables would be printed differently.
    pub(super) fn postgres(&self, major: u32) -> Result<&Postgres, NotPossible> {
        self.postgres
            .get(&major)
            .ok_or_else(|| NotPossible::NoServer {
                wanted: format!("PostgreSQL {major} (initdb and postgres)"),
                found: listed(self.postgres.keys()),
            })
    }

    /// Returns the newest server of this version's series, or else of the next newer series.
    pub(super) fn mongodb(&self, wanted: Version) -> Result<(Version, &Path), NotPossible> {
        let series = |version: &Version| (version.0, version.1);
        let next = self
            .mongodb
            .keys()
            .map(series)
            .find(|it| *it >= series(&wanted));
        let newest = self
            .mongodb
            .iter()
            .rfind(|(version, _)| Some(series(version)) == next);
        let found = newest.map(|(version, path)| (*version, path.as_path()));
        found.ok_or_else(|| NotPossible::NoServer {
            wanted: format!("MongoDB {}.{} or newer (mongod)", wanted.0, wanted.1),
            found: listed(self.mongodb.keys()),
        })
    }

    /// Returns the oldest server that reads RDB files of this version, of the same flavour if possible.
    pub(super) fn redis(
        &self,
        flavour: Flavour,
        rdb_version: u32,
    ) -> Result<(Flavour, Version, &Path), NotPossible> {
        let reads = |(of, version): &(Flavour, Version)| of.reads(*version, rdb_version);
        let fit: Vec<_> = self.redis.iter().filter(|(it, _)| reads(it)).collect();
        let same = fit.iter().find(|((of, _), _)| *of == flavour);
        let found = same.or(fit.first());
        let found = found.map(|((of, version), path)| (*of, *version, path.as_path()));
        found.ok_or_else(|| NotPossible::NoServer {
            wanted: format!(
                "{flavour} server that reads RDB version {rdb_version} ({})",
                flavour.program()
            ),
            found: listed(
                self.redis
                    .keys()
                    .map(|(of, version)| format!("{of} {version}")),
            ),
        })
    }
}

impl Flavour {
    /// Returns the flavour of a server by what it calls itself, such as `Valkey 9.0.1`.
    #[must_use]
    pub fn of(server_version: &str) -> Self {
        if server_version.starts_with("Valkey") {
            Self::Valkey
        } else {
            Self::Redis
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
        }
    }

    /// Returns what precedes the version in the program's answer.
    fn says(self) -> &'static str {
        match self {
            Self::Redis => "Redis server v=",
            Self::Valkey => "Valkey server v=",
        }
    }

    /// Returns whether a server reads RDB files of this version.
    ///
    /// Up to 11 the format is common to both. Valkey then continued with 80, and refuses what Redis calls 12 to 79.
    fn reads(self, server: Version, rdb_version: u32) -> bool {
        let newest = match (self, server) {
            (Self::Valkey, Version(9.., _, _)) => 80,
            (Self::Valkey, _) | (Self::Redis, Version(7, 2..=3, _)) => 11,
            (Self::Redis, Version(..=4, _, _)) => 8,
            (Self::Redis, Version(5 | 6, _, _)) => 9,
            (Self::Redis, Version(7, ..=1, _)) => 10,
            (Self::Redis, Version(7, _, _) | Version(8, ..=5, _)) => 12,
            (Self::Redis, Version(8.., _, _)) => 13,
        };
        match rdb_version {
            ..=11 => rdb_version <= newest,
            12..=79 => self == Self::Redis && rdb_version <= newest,
            80.. => self == Self::Valkey && rdb_version <= newest,
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

impl Version {
    /// Reads `6.0.5`, or `6.0.5-rc1`, anywhere in a text: the first number with a dot in it.
    pub(super) fn find(text: &str) -> Option<Self> {
        let words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
        words.filter(|word| word.contains('.')).find_map(|word| {
            let mut numbers = word.split('.').map(str::parse::<u32>);
            let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
            Some(Self(
                major,
                minor,
                numbers.next().and_then(Result::ok).unwrap_or(0),
            ))
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

fn listed(versions: impl Iterator<Item = impl fmt::Display>) -> String {
    let versions: Vec<String> = versions.map(|it| it.to_string()).collect();
    if versions.is_empty() {
        "none at all".to_owned()
    } else {
        versions.join(", ")
    }
}

/// Returns a program's major version and its version, if it is one of PostgreSQL's.
async fn postgres_version(program: &Path) -> Option<(u32, String)> {
    let (major, text) = parse_version(&said_of_version(program).await?)?;
    Some((major, text.rsplit(' ').next()?.to_owned()))
}

/// Returns the version that follows `says` in a program's answer.
async fn version_in(program: &Path, says: &str) -> Option<Version> {
    let said = said_of_version(program).await?;
    let (_, rest) = said.split_once(says)?;
    Version::find(rest)
}

#[cfg(test)]
mod tests;
