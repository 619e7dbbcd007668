//! Which tools speak to which engine, and what this worker can truly do.

pub mod mongodb;
mod native;
mod percent;
pub mod postgres;
pub mod redis;
mod tls;
pub mod transport;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;

use self::transport::Transport;
use crate::{
    error::JobError,
    process::{Secrets, Tool},
    resource::Engine,
};

/// Where packages put client tools: a directory, and what may stand for `*` in it.
const USUAL_PLACES: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];
/// How long a tool may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The client tools found on this machine: one directory for each major version.
#[derive(Debug, Clone, Default)]
pub struct Toolbox {
    clients: BTreeMap<u32, Client>,
}

/// `pg_dump` and `pg_restore` of one version in one directory.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    directory: PathBuf,
    pub(crate) major: u32,
    /// `pg_dump (PostgreSQL) 18.6`.
    pub(crate) dump_version: String,
    restore_version: String,
}

/// One thing this worker can do, as its consumer registers it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capability {
    /// For which engine.
    pub engine: Engine,
    /// `backup`, `restore`.
    pub operations: Vec<String>,
    /// The tools behind it, e.g. `pg_dump (PostgreSQL) 18.6 in /usr/lib/postgresql/18/bin`, or the protocols and formats
    /// that this build speaks itself.
    pub tools: Vec<String>,
}

impl Toolbox {
    /// Looks for client tools in the `first` directories, in the usual places, then in the `last` directories; runs each
    /// once for its version.
    ///
    /// Of several directories with the same major version the first wins.
    pub async fn discover(first: &[PathBuf], last: &[PathBuf]) -> Self {
        let mut directories = first.to_vec();
        for (parent, prefix, child) in USUAL_PLACES {
            directories.extend(versioned(Path::new(parent), prefix, child));
        }
        directories.extend_from_slice(last);
        Self::only(&directories).await
    }

    /// Looks for client tools in these directories and nowhere else.
    pub async fn only(directories: &[PathBuf]) -> Self {
        let mut clients = BTreeMap::new();
        for directory in directories {
            if let Some(client) = Client::find(directory).await {
                clients.entry(client.major).or_insert(client);
            }
        }
        Self { clients }
    }

    /// Returns what can truly be done; an engine without tools has no entry.
    #[must_use]
    pub fn capabilities(&self) -> Vec<Capability> {
        let shown =
            |version: &str, client: &Client| format!("{version} in {}", client.directory.display());
        let tools: Vec<String> = self
            .clients
            .values()
            .flat_map(|it| [shown(&it.dump_version, it), shown(&it.restore_version, it)])
            .collect();
        let tools_of = |engine| match engine {
            Engine::Postgres | Engine::Vector => tools.clone(),
            Engine::Mongodb => mongodb::protocols(),
            Engine::Redis => redis::protocols(),
        };
        let capable = |engine| Capability {
            engine,
            operations: vec!["backup".to_owned(), "restore".to_owned()],
            tools: tools_of(engine),
        };
        let all = Engine::ALL.into_iter().map(capable);
        all.filter(|capability| !capability.tools.is_empty())
            .collect()
    }

    /// Returns the client of exactly this major version: an older one refuses the server, a newer one writes what the
    /// server's own tools cannot read.
    pub(crate) fn client(&self, tool: &'static str, major: u32) -> Result<&Client, JobError> {
        self.clients.get(&major).ok_or_else(|| JobError::NoClient {
            tool,
            wanted: major,
            found: self.found(),
        })
    }

    fn found(&self) -> String {
        if self.clients.is_empty() {
            return "none at all".to_owned();
        }
        let one = |client: &Client| format!("{} in {}", client.major, client.directory.display());
        self.clients
            .values()
            .map(one)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Client {
    pub(crate) fn pg_dump(&self) -> PathBuf {
        self.directory.join("pg_dump")
    }

    pub(crate) fn pg_restore(&self) -> PathBuf {
        self.directory.join("pg_restore")
    }

    /// Returns the client in a directory, if both tools are there and of the same major version.
    async fn find(directory: &Path) -> Option<Self> {
        let (major, dump_version) = version_of(&directory.join("pg_dump")).await?;
        let (restore_major, restore_version) = version_of(&directory.join("pg_restore")).await?;
        if major != restore_major {
            tracing::warn!(directory = %directory.display(), "pg_dump and pg_restore differ in version: not used");
            return None;
        }
        Some(Self {
            directory: directory.to_owned(),
            major,
            dump_version,
            restore_version,
        })
    }
}

/// Checks that an engine understands a URL, without reaching for it. The error never repeats the URL.
pub fn check_url(engine: Engine, url: &SecretString) -> Result<(), JobError> {
    match engine {
        Engine::Postgres | Engine::Vector => {
            postgres::address::Address::parse(url)?;
            Ok(())
        }
        Engine::Mongodb => mongodb::check_url(url),
        Engine::Redis => redis::check_url(url),
    }
}

/// Returns what of the worker's own machine a URL leans on, besides its network; `None`: nothing. Over a socket, with a file of the
/// worker's or by its identity in a cloud, the worker is let in for what it is, whoever wrote the URL.
pub fn leans_on_machine(
    engine: Engine,
    url: &SecretString,
) -> Result<Option<&'static str>, JobError> {
    match engine {
        Engine::Postgres | Engine::Vector => {
            Ok(postgres::address::Address::parse(url)?.leans_on_machine())
        }
        Engine::Mongodb => mongodb::leans_on_machine(url),
        Engine::Redis => redis::leans_on_machine(url),
    }
}

/// Returns how the way to a URL's server is protected. Reaches for no server.
pub fn transport(engine: Engine, url: &SecretString) -> Result<Transport, JobError> {
    match engine {
        Engine::Postgres | Engine::Vector => {
            Ok(postgres::address::Address::parse(url)?.transport())
        }
        Engine::Mongodb => mongodb::transport(url),
        Engine::Redis => redis::transport(url),
    }
}

/// Returns where a URL's server is, to tell servers apart: `host:port` in lower case, several with commas between them, a
/// `mongodb+srv` name as it is. Never a user, a password or a database. `None` where the URL cannot be used.
#[must_use]
pub fn server(engine: Engine, url: &SecretString) -> Option<String> {
    match engine {
        Engine::Postgres | Engine::Vector => postgres::address::Address::parse(url)
            .ok()
            .map(|address| address.server()),
        Engine::Mongodb => mongodb::server(url),
        Engine::Redis => redis::server(url),
    }
}

/// Returns `parent/prefix*/child`, the newest-looking first.
fn versioned(parent: &Path, prefix: &str, child: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    let fits = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(prefix);
    let entries = entries.flatten().filter(fits);
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path().join(child)).collect();
    found.sort();
    found.reverse();
    found
}

/// Asks a tool for its version. `None` where there is no such tool, or none that answers.
async fn version_of(tool: &Path) -> Option<(u32, String)> {
    let real = tokio::fs::canonicalize(tool).await.ok()?;
    // Debian's wrapper chooses a version by rules of its own, from an environment that it will not have here.
    if real.file_name().is_some_and(|name| name == "pg_wrapper") {
        return None;
    }
    let mut child = Tool::start(tool, &["--version".into()], &[], Secrets::default()).ok()?;
    let mut pipe = child.take_stdout().ok()?;
    let mut said = String::new();
    let answered = async {
        tokio::io::AsyncReadExt::read_to_string(&mut pipe, &mut said)
            .await
            .ok()?;
        child.finish().await.ok().filter(|exit| exit.success)
    };
    tokio::time::timeout(VERSION_TIMEOUT, answered)
        .await
        .ok()??;
    parse_version(&said)
}

/// Reads `pg_dump (PostgreSQL) 17.10 (Debian 17.10-1)` as 17 and what stands before the second bracket.
fn parse_version(said: &str) -> Option<(u32, String)> {
    let (tool, rest) = said.split_once(" (PostgreSQL) ")?;
    let number = rest.split_whitespace().next()?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((
        digits.parse().ok()?,
        format!("{tool} (PostgreSQL) {number}"),
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("pg_dump (PostgreSQL) 18.6\n", Some((18, "pg_dump (PostgreSQL) 18.6")))]
    #[case::debian("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some((15, "pg_dump (PostgreSQL) 15.18")))]
    #[case::beta("pg_restore (PostgreSQL) 19beta1\n", Some((19, "pg_restore (PostgreSQL) 19beta1")))]
    #[case::other("mysqldump 8\n", None)]
    fn versions_are_read_as_tools_print_them(
        #[case] said: &str,
        #[case] version: Option<(u32, &str)>,
    ) {
        assert_eq!(
            parse_version(said),
            version.map(|(major, text)| (major, text.to_owned()))
        );
    }

    #[rstest]
    #[case::postgres(
        Engine::Postgres,
        "postgresql://u:MARK@DB.Example.com/shop",
        "db.example.com:5432"
    )]
    #[case::port(Engine::Vector, "postgres://u:MARK@h:6000/shop", "h:6000")]
    #[case::ipv6(Engine::Postgres, "postgres://u:MARK@[::1]:6000/shop", "[::1]:6000")]
    #[case::socket(
        Engine::Postgres,
        "postgres://u:MARK@/shop?host=/run/pg",
        "/run/pg:5432"
    )]
    #[case::redis(Engine::Redis, "redis://u:MARK@Cache", "cache:6379")]
    #[case::redis_ipv6(Engine::Redis, "redis://u:MARK@[::1]:1", "[::1]:1")]
    #[case::set(
        Engine::Mongodb,
        "mongodb://u:MARK@B:2,a/shop?replicaSet=rs",
        "a:27017,b:2"
    )]
    #[case::srv(
        Engine::Mongodb,
        "mongodb+srv://u:MARK@Cluster.example.com/shop",
        "cluster.example.com"
    )]
    fn a_server_is_named_without_what_is_secret(
        #[case] engine: Engine,
        #[case] url: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(
            server(engine, &url.to_owned().into()).as_deref(),
            Some(expected)
        );
    }

    /// The kind: whether a connection can be trusted is a fact of its URL, and nobody has to read it to know.
    #[rstest]
    #[case::plain(
        Engine::Postgres,
        "postgres://u:p@db.example/d",
        Some("as the other end likes")
    )]
    #[case::encrypted(
        Engine::Postgres,
        "postgres://u:p@db.example/d?sslmode=require",
        Some("any certificate")
    )]
    #[case::chain(
        Engine::Vector,
        "postgres://u:p@db.example/d?sslmode=verify-ca&sslrootcert=/ca",
        Some("name is not compared")
    )]
    #[case::full(
        Engine::Postgres,
        "postgres://u:p@db.example/d?sslmode=verify-full",
        None
    )]
    #[case::with_authority(Engine::Postgres, "postgres://u:p@db.example/d?sslrootcert=/ca", None)]
    #[case::socket(Engine::Postgres, "postgres://u@/d?host=/run/pg", None)]
    #[case::loopback(Engine::Postgres, "postgres://u:p@127.0.0.1/d", None)]
    #[case::one_is_elsewhere(
        Engine::Postgres,
        "postgres://u:p@localhost,db.example/d",
        Some("as the other end likes")
    )]
    #[case::mongodb(
        Engine::Mongodb,
        "mongodb://u:p@db.example/d",
        Some("nothing is encrypted")
    )]
    #[case::mongodb_tls(Engine::Mongodb, "mongodb://u:p@db.example/d?tls=true", None)]
    #[case::mongodb_any(
        Engine::Mongodb,
        "mongodb://u:p@db.example/d?tls=true&tlsAllowInvalidCertificates=true",
        Some("any certificate")
    )]
    #[case::mongodb_srv(Engine::Mongodb, "mongodb+srv://u:p@db.example.com/d", None)]
    #[case::mongodb_srv_without(
        Engine::Mongodb,
        "mongodb+srv://u:p@db.example.com/d?tls=false",
        Some("nothing is encrypted")
    )]
    #[case::mongodb_here(Engine::Mongodb, "mongodb://u:p@[::1]:7/d", None)]
    #[case::redis(Engine::Redis, "redis://u:p@db.example", Some("nothing is encrypted"))]
    #[case::redis_tls(Engine::Redis, "rediss://u:p@db.example", None)]
    #[case::redis_here(Engine::Redis, "redis://localhost", None)]
    fn a_url_says_how_its_way_is_protected(
        #[case] engine: Engine,
        #[case] url: &str,
        #[case] doubt: Option<&str>,
    ) -> anyhow::Result<()> {
        let found = transport(engine, &url.to_owned().into())?.doubt();
        match (found, doubt) {
            (Some(found), Some(doubt)) => assert!(found.contains(doubt), "{found}"),
            (found, doubt) => assert_eq!(found, doubt),
        }
        Ok(())
    }

    fn fake(directory: &Path, tool: &str, version: &str) -> anyhow::Result<()> {
        let script = format!("#!/bin/sh\necho '{tool} (PostgreSQL) {version}'\n");
        let path = directory.join(tool);
        std::fs::write(&path, script)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(())
    }

    #[tokio::test]
    async fn the_first_directory_of_a_major_wins_and_halves_do_not_count() -> anyhow::Result<()> {
        let directories = [
            tempfile::tempdir()?,
            tempfile::tempdir()?,
            tempfile::tempdir()?,
        ];
        let [first, second, half] = &directories;
        for (directory, version) in [(first, "18.6"), (second, "18.1")] {
            fake(directory.path(), "pg_dump", version)?;
            fake(directory.path(), "pg_restore", version)?;
        }
        fake(half.path(), "pg_dump", "17.1")?;
        let paths = directories.each_ref().map(|it| it.path().to_owned());
        let tools = Toolbox::only(&paths).await;
        let capabilities = tools.capabilities();
        let engines: Vec<_> = capabilities.iter().map(|it| it.engine).collect();
        assert_eq!(engines, Engine::ALL);
        let shown = format!("pg_dump (PostgreSQL) 18.6 in {}", first.path().display());
        assert_eq!(capabilities[0].tools[0], shown);
        let error = tools.client("pg_dump", 17).unwrap_err();
        assert!(error.is_permanent());
        assert!(error.to_string().contains("found 18 in"), "{error}");
        assert!(error.to_string().contains("--pg-client-dir"), "{error}");
        Ok(())
    }

    #[tokio::test]
    async fn without_tools_only_what_needs_none_is_promised() {
        let capabilities = Toolbox::only(&[]).await.capabilities();
        let engines: Vec<_> = capabilities.iter().map(|it| it.engine).collect();
        assert_eq!(engines, [Engine::Mongodb, Engine::Redis]);
    }
}
