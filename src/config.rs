//! What the environment and the flags configure. A flag overrides the environment; secrets have no flag.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::TimeDelta;
use clap::Args;
use lastgood_jobs::{
    clients::Toolbox,
    drill::Drills,
    key::{Recipient, RecipientError},
    scratch::{RunAs, ScratchSpace, ServerPrograms},
};
use secrecy::SecretString;

use crate::secret::{MasterKey, MasterKeys, SecretError, read_secret_file};
pub use crate::stores::StorageArgs;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No variable names the catalog.
    #[error(
        "set DATABASE_URL (or DATABASE_URL_FILE) to the catalog: postgresql://user:password@host:5432/database"
    )]
    NoCatalog,
    /// A value in the environment is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// There is no recovery recipient, so no one could open a key's escrow.
    #[error(
        "set LASTGOOD_RECOVERY_RECIPIENT to an age public key (`age-keygen -o recovery.txt` makes a key pair; keep that file \
         offline): each key's escrow is encrypted to it"
    )]
    NoRecoveryRecipient,
    /// The previous master key is set without the current one.
    #[error(
        "LASTGOOD_PREVIOUS_MASTER_KEY is set, but LASTGOOD_MASTER_KEY is not: set both; the previous key only opens what it sealed"
    )]
    OnlyPreviousMasterKey,
    /// The recovery recipient is not a public key of age.
    #[error("LASTGOOD_RECOVERY_RECIPIENT cannot be used")]
    RecoveryRecipient(#[source] RecipientError),
    /// The file of a secret cannot be read.
    #[error("{variable} cannot be used")]
    Secret {
        /// The variable that names the file.
        variable: &'static str,
        /// Why not.
        #[source]
        source: SecretError,
    },
}

/// Returns the catalog's URL from `LASTGOOD_DATABASE_URL[_FILE]`, else from `DATABASE_URL[_FILE]`.
///
/// There is no flag for it, because every process can read another's arguments.
pub fn database_url() -> Result<SecretString, ConfigError> {
    for (variable, file) in [
        ("LASTGOOD_DATABASE_URL", "LASTGOOD_DATABASE_URL_FILE"),
        ("DATABASE_URL", "DATABASE_URL_FILE"),
    ] {
        if let Some(url) = secret_variable(variable, file)? {
            return Ok(url);
        }
    }
    Err(ConfigError::NoCatalog)
}

/// Returns the master key of `LASTGOOD_MASTER_KEY[_FILE]`, if it is set, along with the previous one of
/// `LASTGOOD_PREVIOUS_MASTER_KEY[_FILE]`.
pub fn master_keys() -> Result<Option<MasterKeys>, ConfigError> {
    let current = master_key("LASTGOOD_MASTER_KEY", "LASTGOOD_MASTER_KEY_FILE")?;
    let previous = master_key(
        "LASTGOOD_PREVIOUS_MASTER_KEY",
        "LASTGOOD_PREVIOUS_MASTER_KEY_FILE",
    )?;
    match (current, previous) {
        (Some(current), previous) => Ok(Some(MasterKeys::new(current, previous))),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(ConfigError::OnlyPreviousMasterKey),
    }
}

fn master_key(
    variable: &'static str,
    file: &'static str,
) -> Result<Option<MasterKey>, ConfigError> {
    secret_variable(variable, file)?
        .map(|text| MasterKey::parse(&text))
        .transpose()
        .map_err(|source| ConfigError::Secret { variable, source })
}

/// Returns the public key of `LASTGOOD_RECOVERY_RECIPIENT`, to which the escrows of keys are encrypted.
pub fn recovery_recipient() -> Result<Recipient, ConfigError> {
    let text = non_empty("LASTGOOD_RECOVERY_RECIPIENT")?.ok_or(ConfigError::NoRecoveryRecipient)?;
    text.parse().map_err(ConfigError::RecoveryRecipient)
}

fn secret_variable(
    variable: &'static str,
    file: &'static str,
) -> Result<Option<SecretString>, ConfigError> {
    if let Some(value) = non_empty(variable)? {
        return Ok(Some(SecretString::from(value)));
    }
    let Some(path) = non_empty(file)? else {
        return Ok(None);
    };
    read_secret_file(&path)
        .map(Some)
        .map_err(|source| ConfigError::Secret {
            variable: file,
            source,
        })
}

fn non_empty(variable: &'static str) -> Result<Option<String>, ConfigError> {
    match env::var(variable) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(ConfigError::NotUtf8(variable)),
    }
}

/// The longest duration that is accepted, far below what would overflow when it is added to an instant.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// Parses a duration: `90s`, `12h`, `30d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("longer than a hundred years".to_owned()),
        Err(error) => Err(format!(
            "{error}: give it with its unit, e.g. 90s, 12h or 30d"
        )),
    }
}

/// Parses a duration to wait for, which must not be zero.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than zero, e.g. 9s".to_owned()),
        time => Ok(time),
    }
}

/// Parses a flag as the environment gives it. Empty is off, as a compose file passes a variable that nobody set.
pub(crate) fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("is neither on nor off: give 1 or 0".to_owned()),
    }
}

/// The plans.
#[derive(Debug, Clone, Args)]
pub struct PlansArgs {
    /// The plans file
    #[arg(
        long,
        env = "LASTGOOD_PLANS",
        default_value = "plans.yaml",
        value_name = "FILE"
    )]
    pub plans: PathBuf,
}

/// How old a restore point's proof may be.
#[derive(Debug, Clone, Args)]
pub struct VerificationArgs {
    /// Read each restore point back at least this often, and each resource's newest four times as often; 0: never
    #[arg(long = "verify-within", env = "LASTGOOD_VERIFY_WITHIN", default_value = "30d", value_name = "TIME", value_parser = duration)]
    pub verify_within: Duration,
}

impl VerificationArgs {
    /// Returns how old a proof may be, or `None` if proofs do not age.
    #[must_use]
    pub fn within(&self) -> Option<Duration> {
        Some(self.verify_within).filter(|within| !within.is_zero())
    }
}

/// The client tools.
#[derive(Debug, Clone, Args)]
pub struct ToolsArgs {
    /// A directory with `pg_dump` and `pg_restore`, searched before the usual places; repeat it for each major version
    #[arg(
        long = "pg-client-dir",
        env = "LASTGOOD_PG_CLIENT_DIRS",
        value_delimiter = ':',
        value_name = "DIR"
    )]
    pub pg_client_dirs: Vec<PathBuf>,
}

impl ToolsArgs {
    /// Returns the client tools in the configured directories, the usual places and `PATH`, in this order.
    pub async fn discover(&self) -> Toolbox {
        let path = env::var_os("PATH").unwrap_or_default();
        let on_path: Vec<_> = env::split_paths(&path).collect();
        Toolbox::discover(&self.pg_client_dirs, &on_path).await
    }
}

/// Drills: restores into servers of the consumer's own.
#[derive(Debug, Clone, Args)]
pub struct DrillArgs {
    /// How many drills of each engine to execute at once, beside everything else; 0: none
    #[arg(long, env = "LASTGOOD_DRILL_SLOTS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1024))]
    pub drill_slots: u32,
    /// Where drills put their servers' data. Default: a directory beside the private files
    #[arg(long, env = "LASTGOOD_DRILL_DIR", value_name = "DIR")]
    drill_dir: Option<PathBuf>,
    /// The most that one drill may take, on disk or, for Redis and Valkey, in memory
    #[arg(long, env = "LASTGOOD_DRILL_MAX_BYTES", default_value_t = 64 << 30, value_name = "BYTES")]
    drill_max_bytes: u64,
    /// A directory with server programs (`initdb` and `postgres`, `mongod`, `redis-server`, `valkey-server`), searched before the usual
    /// places; repeat it for each version
    #[arg(
        long = "drill-program-dir",
        env = "LASTGOOD_DRILL_PROGRAM_DIRS",
        value_delimiter = ':',
        value_name = "DIR"
    )]
    drill_program_dirs: Vec<PathBuf>,
    /// The user whom drills' servers run as, if this consumer runs as root: UID:GID
    #[arg(long, env = "LASTGOOD_DRILL_USER", value_name = "UID:GID", value_parser = run_as)]
    drill_user: Option<RunAs>,
}

impl DrillArgs {
    /// Returns what drills restore into, or `None` if there are to be none.
    pub async fn discover(&self, work_dir: &Path) -> Option<Drills> {
        if self.drill_slots == 0 {
            return None;
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let on_path: Vec<_> = env::split_paths(&path).collect();
        let dir = self.drill_dir.clone();
        Some(Drills {
            programs: ServerPrograms::discover(&self.drill_program_dirs, &on_path).await,
            space: ScratchSpace {
                dir: dir.unwrap_or_else(|| beside(work_dir)),
                max_bytes: self.drill_max_bytes,
                run_as: self.drill_user,
            },
        })
    }
}

/// Returns a directory beside this one: its files are private, and the servers of drills may run as another user.
fn beside(work_dir: &Path) -> PathBuf {
    let mut name = work_dir.file_name().unwrap_or_default().to_owned();
    name.push("-drills");
    work_dir.with_file_name(name)
}

fn run_as(text: &str) -> Result<RunAs, String> {
    let numbers = text
        .split_once(':')
        .and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    let (uid, gid) = numbers.ok_or("give two numbers, e.g. 65534:65534")?;
    Ok(RunAs { uid, gid })
}

/// Retention.
#[derive(Debug, Clone, Args)]
pub struct RetentionArgs {
    /// How long the former promise still holds after a change of a tier, a retention or the plans
    #[arg(long = "retention-grace", env = "LASTGOOD_RETENTION_GRACE", default_value = "7d", value_parser = duration)]
    grace: Duration,
}

impl RetentionArgs {
    /// Returns the grace period.
    #[must_use]
    pub fn grace(&self) -> TimeDelta {
        TimeDelta::from_std(self.grace).unwrap_or(TimeDelta::MAX)
    }
}
