//! PostgreSQL's client tools: which versions are installed on this machine, and where.
//!
//! Server programs are looked for in the same places: see `scratch/programs.rs`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    error::{JobError, PostgresError},
    process::{Secrets, Tool},
};

/// Where packages install client tools: `parent`, `prefix` and `child` of `parent/prefix*/child`.
const USUAL_PLACES: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];
/// How long a tool may take to print its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of that is read.
const VERSION_BYTES_MAX: u64 = 64 * 1024;

/// The client tools found on this machine: one directory per major version.
#[derive(Debug, Clone, Default)]
pub struct Toolbox {
    clients: BTreeMap<u32, Client>,
}

/// One version of `pg_dump` and `pg_restore`, in one directory.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    directory: PathBuf,
    pub(crate) major: u32,
    /// For example `pg_dump (PostgreSQL) 18.6`.
    pub(crate) dump_version: String,
    restore_version: String,
}

impl Toolbox {
    /// Looks for client tools in the `first` directories, the usual places and the `last` directories, in this order,
    /// and runs each once for its version.
    ///
    /// If several directories have the same major version, the first wins.
    pub async fn discover(first: &[PathBuf], last: &[PathBuf]) -> Self {
        Self::only(&places(first, last)).await
    }

    /// Looks for client tools in these directories only.
    pub async fn only(directories: &[PathBuf]) -> Self {
        let mut clients = BTreeMap::new();
        for directory in directories {
            if let Some(client) = Client::find(directory).await {
                clients.entry(client.major).or_insert(client);
            }
        }
        Self { clients }
    }

    /// Returns each tool that was found, with its version and directory.
    pub(crate) fn shown(&self) -> Vec<String> {
        let shown =
            |version: &str, client: &Client| format!("{version} in {}", client.directory.display());
        self.clients
            .values()
            .flat_map(|it| [shown(&it.dump_version, it), shown(&it.restore_version, it)])
            .collect()
    }

    /// Returns the client of exactly this major version: an older one refuses the server, and a newer one writes dumps
    /// that the server's own tools cannot read.
    pub(crate) fn client(&self, tool: &'static str, major: u32) -> Result<&Client, JobError> {
        self.clients.get(&major).ok_or_else(|| {
            JobError::Postgres(PostgresError::NoClient {
                tool,
                wanted: major,
                found: self.found(),
            })
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

    /// Returns the client in a directory, if both tools are there and have the same major version.
    async fn find(directory: &Path) -> Option<Self> {
        let (major, dump_version) = version_of(&directory.join("pg_dump")).await?;
        let (restore_major, restore_version) = version_of(&directory.join("pg_restore")).await?;
        if major != restore_major {
            tracing::warn!(directory = %directory.display(), "pg_dump and pg_restore differ in version: this directory is not used");
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

/// Returns the `first` directories, the usual places and the `last` directories, in this order.
pub(crate) fn places(first: &[PathBuf], last: &[PathBuf]) -> Vec<PathBuf> {
    let mut directories = first.to_vec();
    for (parent, prefix, child) in USUAL_PLACES {
        directories.extend(versioned(Path::new(parent), prefix, child));
    }
    directories.extend_from_slice(last);
    directories
}

/// Returns the directories `parent/prefix*/child`, in descending order of their names.
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

/// Asks a tool for its version. `None` if there is no such tool, or if it does not answer.
async fn version_of(tool: &Path) -> Option<(u32, String)> {
    parse_version(&said_of_version(tool).await?)
}

/// Returns what a program prints for `--version`. `None` if there is no such program, or if it does not answer.
pub(crate) async fn said_of_version(tool: &Path) -> Option<String> {
    let real = tokio::fs::canonicalize(tool).await.ok()?;
    // Debian's wrapper chooses a version by its own rules, from an environment that it does not have here.
    if real.file_name().is_some_and(|name| name == "pg_wrapper") {
        return None;
    }
    let mut child = Tool::start(tool, &["--version".into()], &[], Secrets::default()).ok()?;
    let pipe = child.take_stdout().ok()?;
    let mut said = String::new();
    let answered = async {
        let mut pipe = tokio::io::AsyncReadExt::take(pipe, VERSION_BYTES_MAX);
        tokio::io::AsyncReadExt::read_to_string(&mut pipe, &mut said)
            .await
            .ok()?;
        child.finish().await.ok().filter(|exit| exit.success)
    };
    tokio::time::timeout(VERSION_TIMEOUT, answered)
        .await
        .ok()??;
    Some(said)
}

/// Reads `pg_dump (PostgreSQL) 17.10 (Debian 17.10-1)` as 17 and `pg_dump (PostgreSQL) 17.10`.
pub(crate) fn parse_version(said: &str) -> Option<(u32, String)> {
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
        let found = tools.shown();
        let shown = format!("pg_dump (PostgreSQL) 18.6 in {}", first.path().display());
        assert_eq!(found[0], shown);
        let error = tools.client("pg_dump", 17).unwrap_err();
        assert!(error.is_permanent());
        assert!(error.to_string().contains("found 18 in"), "{error}");
        assert!(error.to_string().contains("--pg-client-dir"), "{error}");
        Ok(())
    }
}
