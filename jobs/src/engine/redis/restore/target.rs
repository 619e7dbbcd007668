//! The server that is to be filled: what it has, and whether it can take what the backup has.

mod trials;

use self::trials::{EXPIRY, FIELD_EXPIRY, Trial, commands_of};
use super::{
    Existing,
    survey::{Sample, Survey},
};
use crate::{
    attempt::RunId,
    engine::{
        address::redis::Address,
        redis::{
            connection::{Connection, meaning},
            dump::census::Census,
            info::{self, Role, Server},
            mark::{self, MARK, Marked},
            reply::{Reply, gibberish},
        },
    },
    error::{JobError, RedisError, ServerFault},
    format::rdb::{
        LONGEST_WRITTEN, Stored, ValueKind, Version, functions_payload, restore_payload,
    },
};

/// How long a probe lives if nobody removes it.
const PROBE_LIVES_MS: &[u8] = b"60000";
/// What any server uses without keys, and for a replica that reads its snapshot.
const MEMORY_BESIDES_BYTES: u64 = 4 * 1024 * 1024;
/// What a command has besides its longest argument.
const COMMAND_BESIDES_BYTES: u64 = 64 * 1024;

/// A type byte that no value has. Every server refuses a payload with it, but only after it has checked the payload's
/// version.
const NO_TYPE: u8 = 255;

/// A connection to the target, and what was found there. Database 0 is selected.
pub(super) struct Target {
    pub(super) connection: Connection,
    pub(super) server: Server,
    /// The names of its function libraries; `None` if it does not support functions.
    pub(super) libraries: Option<Vec<String>>,
    /// Its marks, and the names that are not free for a mark.
    pub(super) marks: mark::Found,
}

impl Target {
    /// Connects, and looks at what is there. Changes nothing.
    pub(super) async fn look(address: &Address, run: RunId) -> Result<Self, JobError> {
        let mut connection = Connection::open(address).await?;
        let server = info::must_ask(&mut connection).await?;
        info::refuse_cluster(&server)?;
        match server.role {
            Role::Primary => {}
            Role::Replica => return Err(RedisError::TargetIsReplica.into()),
        }
        let libraries = libraries(&mut connection).await?;
        let marks = mark::look(&mut connection, run).await?;
        Ok(Self {
            connection,
            server,
            libraries,
            marks,
        })
    }

    /// Returns the number of keys, without marks.
    pub(super) fn keys(&self) -> u64 {
        let all: u64 = self.server.keys.values().sum();
        all.saturating_sub(self.marks.marks.len() as u64)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys() == 0 && self.libraries.as_ref().is_none_or(Vec::is_empty)
    }

    /// Describes what is there.
    pub(super) fn found(&self) -> String {
        let mut found = Vec::new();
        if let Marked::ByAnother(run) = &self.marks.marked {
            found.push(format!(
                "the mark of a restore that did not finish (run {run}, key {MARK})"
            ));
        }
        let keys = self.server.keys.iter();
        found.extend(keys.map(|(database, keys)| format!("{keys} keys in database {database}")));
        let libraries = self.libraries.iter().flatten();
        found.extend(libraries.map(|name| format!("function library {name}")));
        let more = found.len().saturating_sub(5);
        found.truncate(5);
        if more > 0 {
            found.push(format!("{more} more"));
        }
        found.join(", ")
    }

    /// Fails unless the server can take the backup and lets us write it. Everything that can be refused is tried here,
    /// before anything is permanently written or removed.
    ///
    /// One value of each kind is written under a key that nobody else has, and removed at once. Functions are loaded
    /// and put back in one transaction, whose intermediate state nobody sees.
    pub(super) async fn can_take(
        &mut self,
        survey: &Survey,
        existing: Existing,
        run: RunId,
    ) -> Result<(), JobError> {
        self.has_memory(survey)?;
        let highest = survey.census.keys.keys().next_back().copied();
        self.has_database(highest.unwrap_or(0)).await?;
        self.takes_lengths(survey).await?;
        let probe = format!("{MARK}:{run}");
        self.remove_probe(&probe).await?;
        self.can_restore(&survey.census, probe.as_bytes()).await?;
        self.has_rights(existing, probe.as_bytes()).await?;
        let tried = self.takes_every_kind(survey, probe.as_bytes()).await;
        if tried.is_err() {
            // The first error explains more than one from here.
            let _whatever_it_says = self.remove_probe(&probe).await;
        }
        tried?;
        self.remove_probe(&probe).await?;
        self.can_load(survey, existing).await
    }

    /// Returns whether functions are to be written: those of the backup, or none in place of the target's.
    pub(super) fn writes_functions(&self, survey: &Survey, existing: Existing) -> bool {
        let has_some = self.libraries.as_ref().is_some_and(|it| !it.is_empty());
        !survey.functions.is_empty() || (existing == Existing::Replaced && has_some)
    }

    /// Writes the backup's functions. If the target refuses one, none is written.
    pub(super) async fn load_functions(
        &mut self,
        survey: &Survey,
        existing: Existing,
    ) -> Result<(), JobError> {
        let payload = functions_payload(&survey.functions, survey.census.summary.version);
        let words = load_words(&payload, existing);
        let said = self.connection.try_to(LOADING, &words).await?;
        said.map(|_| ())
            .map_err(|fault| functions_refused(&self.server.version, fault))
    }

    /// Also tries the commands that are needed only after the first key is written.
    async fn has_rights(&mut self, existing: Existing, probe: &[u8]) -> Result<(), JobError> {
        match existing {
            Existing::Refused | Existing::Merged => {}
            Existing::Replaced => {
                let doing = "look for keys that the backup does not have (SCAN)";
                let words: [&[u8]; 4] = [b"SCAN", b"0", b"COUNT", b"1"];
                self.connection.ask(doing, &words).await?;
            }
        }
        let doing = "mark the target as half restored (SET)";
        let words: [&[u8]; 5] = [b"SET", probe, b"x", b"PX", PROBE_LIVES_MS];
        self.connection.ask(doing, &words).await?;
        Ok(())
    }

    async fn remove_probe(&mut self, probe: &str) -> Result<(), JobError> {
        let doing = "remove keys (UNLINK)";
        self.connection
            .ask(doing, &[b"UNLINK", probe.as_bytes()])
            .await?;
        Ok(())
    }

    /// Compares memory limits: the dump's server used this much for the same keys. An unknown part was for other
    /// things, so an excess of one tenth passes.
    fn has_memory(&self, survey: &Survey) -> Result<(), RedisError> {
        let (Some(limit_bytes), Some(needed_bytes)) =
            (self.server.max_memory_bytes, survey.memory_bytes)
        else {
            return Ok(());
        };
        if needed_bytes.saturating_sub(MEMORY_BESIDES_BYTES)
            <= limit_bytes.saturating_add(limit_bytes / 10)
        {
            return Ok(());
        }
        let policy = self.server.max_memory_policy.clone();
        Err(RedisError::TooLittleMemory {
            limit_bytes,
            policy: policy.unwrap_or_else(|| "not known".to_owned()),
            needed_bytes,
        })
    }

    /// Compares the longest value with the target's limits, if the target reports them.
    async fn takes_lengths(&mut self, survey: &Survey) -> Result<(), JobError> {
        let argument_bytes = survey.longest_argument_bytes;
        if argument_bytes > LONGEST_WRITTEN {
            return Err(RedisError::ElementTooLong { argument_bytes }.into());
        }
        // A long string is assembled from pieces, but one command carries at least a whole element or a whole value.
        let command_bytes = argument_bytes.saturating_add(COMMAND_BESIDES_BYTES);
        for (setting, needed_bytes) in [
            ("proto-max-bulk-len", survey.longest_bytes),
            ("client-query-buffer-limit", command_bytes),
        ] {
            let limit_bytes = self.setting(setting).await?.unwrap_or(u64::MAX);
            if needed_bytes > limit_bytes {
                return Err(RedisError::ValueTooLong {
                    setting,
                    limit_bytes,
                    needed_bytes,
                }
                .into());
            }
        }
        Ok(())
    }

    /// Returns a numeric setting; `None` if the server does not say.
    async fn setting(&mut self, name: &str) -> Result<Option<u64>, JobError> {
        let doing = "ask for a setting (CONFIG GET)";
        let said = self
            .connection
            .try_to(doing, &[b"CONFIG", b"GET", name.as_bytes()])
            .await?;
        let mut parts = said.ok().and_then(Reply::into_array).unwrap_or_default();
        let value = parts.pop().and_then(Reply::into_bytes);
        let text = value.as_deref().and_then(|it| std::str::from_utf8(it).ok());
        Ok(text.and_then(|text| text.parse().ok()))
    }

    async fn has_database(&mut self, number: u64) -> Result<(), JobError> {
        let digits = number.to_string();
        let doing = "select a database (SELECT)";
        let connection = &mut self.connection;
        let said = connection
            .try_to(doing, &[b"SELECT", digits.as_bytes()])
            .await?;
        match said {
            Ok(_) => {}
            Err(source) if source.code() == Some("ERR") => {
                let needed = number.saturating_add(1);
                return Err(RedisError::TooFewDatabases { needed, source }.into());
            }
            Err(fault) => return Err(meaning(doing, fault)),
        }
        connection.ask(doing, &[b"SELECT", b"0"]).await?;
        Ok(())
    }

    /// Writes one value of each kind as the restore will: whole, or by the commands that assemble it.
    async fn takes_every_kind(&mut self, survey: &Survey, probe: &[u8]) -> Result<(), JobError> {
        let doing = "write keys (RESTORE)";
        for sample in &survey.samples {
            // Expires by itself if this worker dies.
            let words: [&[u8]; 5] = [
                b"RESTORE",
                probe,
                PROBE_LIVES_MS,
                &sample.payload,
                b"REPLACE",
            ];
            if let Err(source) = self.connection.try_to(doing, &words).await? {
                return Err(self.lacks(sample, source));
            }
        }
        for kind in &survey.large_kinds {
            self.connection
                .ask("remove keys (UNLINK)", &[b"UNLINK", probe])
                .await?;
            for trial in commands_of(*kind) {
                self.try_command(trial, probe).await?;
            }
            if *kind == ValueKind::Hash && survey.has_large_expiring_hash {
                self.try_command(&FIELD_EXPIRY, probe).await?;
            }
            self.try_command(&EXPIRY, probe).await?;
        }
        Ok(())
    }

    async fn try_command(&mut self, trial: &Trial, probe: &[u8]) -> Result<(), JobError> {
        let (doing, name, arguments) = *trial;
        let words = [name, &[probe], arguments].concat();
        self.connection.ask(doing, &words).await?;
        Ok(())
    }

    fn lacks(&self, sample: &Sample, source: ServerFault) -> JobError {
        match verdict(&source) {
            Verdict::CanRestore => {
                let advice = if sample.module().is_some() {
                    "load the same module there, in that version or a newer one (MODULE LIST)"
                } else {
                    "restore into a server of the kind that dumped them, of that version or newer"
                };
                RedisError::TargetLacks {
                    target: self.server.version.clone(),
                    what: sample.what(),
                    advice,
                    source,
                }
                .into()
            }
            Verdict::OtherVersion | Verdict::No => meaning("write keys (RESTORE)", source),
        }
    }

    /// Exchanges the functions for the backup's and back again, in one transaction.
    async fn can_load(&mut self, survey: &Survey, existing: Existing) -> Result<(), JobError> {
        if !self.writes_functions(survey, existing) {
            return Ok(());
        }
        if self.libraries.is_none() {
            return Err(RedisError::NoFunctions {
                target: self.server.version.clone(),
            }
            .into());
        }
        let payload = functions_payload(&survey.functions, survey.census.summary.version);
        let connection = &mut self.connection;
        let doing = "save the target's functions (FUNCTION DUMP)";
        let saved = connection.ask(doing, &[b"FUNCTION", b"DUMP"]).await?;
        let saved = saved.into_bytes().unwrap_or_default();
        let doing = "try the backup's functions (MULTI)";
        connection.ask(doing, &[b"MULTI"]).await?;
        // If this is refused, the server discards the transaction with the connection.
        connection
            .ask(LOADING, &load_words(&payload, existing))
            .await?;
        let back: [&[u8]; 4] = [b"FUNCTION", b"RESTORE", &saved, b"FLUSH"];
        connection.ask(LOADING, &back).await?;
        let doing = "try the backup's functions (EXEC)";
        let said = connection.ask(doing, &[b"EXEC"]).await?;
        let Reply::Array(said) = said else {
            return Err(gibberish(doing));
        };
        let mut said = said.into_iter();
        let (tried, put_back) = (said.next(), said.next());
        let version = &self.server.version;
        if let Some(Err(fault)) = put_back {
            return Err(functions_refused(version, fault));
        }
        match tried {
            Some(Err(fault)) => Err(functions_refused(version, fault)),
            Some(Ok(_)) => Ok(()),
            None => Err(gibberish(doing)),
        }
    }

    async fn can_restore(&mut self, census: &Census, probe: &[u8]) -> Result<(), JobError> {
        let doing = "write keys (RESTORE)";
        let payload = payload_of_no_type(census.summary.version);
        let words: [&[u8]; 6] = [b"RESTORE", probe, b"0", &payload, b"REPLACE", b"ABSTTL"];
        let said = self.connection.try_to(doing, &words).await?;
        let Err(source) = said else {
            return Ok(());
        };
        match verdict(&source) {
            Verdict::CanRestore => Ok(()),
            Verdict::OtherVersion => {
                let version = census.summary.version;
                let server = census.server.as_deref().unwrap_or("another server");
                Err(RedisError::TargetOlder {
                    target: self.server.version.clone(),
                    dump: format!("{server} dumped (RDB version {version})"),
                    source,
                }
                .into())
            }
            Verdict::No => Err(meaning(doing, source)),
        }
    }
}

const LOADING: &str = "write functions (FUNCTION RESTORE)";

/// Loads all functions at once, in place of all existing ones or of those of the same name.
fn load_words(payload: &[u8], existing: Existing) -> [&[u8]; 4] {
    let policy: &[u8] = match existing {
        Existing::Replaced => b"FLUSH",
        Existing::Refused | Existing::Merged => b"REPLACE",
    };
    [b"FUNCTION", b"RESTORE", payload, policy]
}

fn functions_refused(target: &str, source: ServerFault) -> JobError {
    match source.code() {
        Some("ERR") | None => RedisError::FunctionsRefused {
            target: target.to_owned(),
            source,
        }
        .into(),
        Some(_) => meaning(LOADING, source),
    }
}

/// What a server says about a payload that no server could take.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It understood everything but the type.
    CanRestore,
    /// It does not take this version.
    OtherVersion,
    /// It takes nothing now, or nothing from us.
    No,
}

fn verdict(fault: &ServerFault) -> Verdict {
    // The server's code is the same for both. Only the message differs, and its wording has not changed since 2.6.
    let said = fault.to_string();
    if said.contains("Bad data format") {
        Verdict::CanRestore
    } else if said.contains("payload version or checksum") {
        Verdict::OtherVersion
    } else {
        Verdict::No
    }
}

fn payload_of_no_type(version: Version) -> Vec<u8> {
    let mut payload = Vec::new();
    let stored = Stored {
        metadata: &[],
        type_byte: NO_TYPE,
        raw: &[],
    };
    restore_payload(stored, version, &mut payload);
    payload
}

/// Returns the function libraries; `None` if the server does not support functions.
async fn libraries(connection: &mut Connection) -> Result<Option<Vec<String>>, JobError> {
    let doing = "list functions (FUNCTION LIST)";
    let reply = match connection.try_to(doing, &[b"FUNCTION", b"LIST"]).await? {
        Ok(reply) => reply,
        // Unknown before 7.0.
        Err(fault) if fault.code() == Some("ERR") => return Ok(None),
        Err(fault) => return Err(meaning(doing, fault)),
    };
    let libraries = reply.into_array().unwrap_or_default();
    Ok(Some(libraries.into_iter().map(name_of).collect()))
}

/// Parses `library_name`, name, …
fn name_of(library: Reply) -> String {
    let mut words = library.into_array().unwrap_or_default().into_iter();
    while let Some(word) = words.next() {
        if word.into_bytes().as_deref() == Some(b"library_name".as_slice()) {
            let name = words.next().and_then(Reply::into_bytes);
            return super::batch::shown(&name.unwrap_or_default());
        }
    }
    "?".to_owned()
}
