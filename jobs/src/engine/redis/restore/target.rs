//! The server that is to be filled: what it has, and whether it can take what the backup has.

use uuid::Uuid;

use crate::{
    engine::redis::{
        address::Address,
        connection::{Connection, meaning},
        dump::census::Census,
        error::RedisError,
        info::{self, Role, Server},
        mark::{self, MARK, Marked},
        rdb::{Stored, Version, restore_payload},
        reply::Reply,
    },
    error::{JobError, ServerFault},
};

/// No value has this type: a payload with it is refused by every server, after it has looked at the payload's version.
const NO_TYPE: u8 = 255;

/// A connection to the target, and what was found there. Database 0 is selected.
pub(super) struct Target {
    pub(super) connection: Connection,
    pub(super) server: Server,
    /// The names of its function libraries; `None` where there is no such thing.
    pub(super) libraries: Option<Vec<String>>,
    pub(super) marked: Marked,
}

impl Target {
    /// Connects, and looks at what is there. Changes nothing.
    pub(super) async fn look(address: &Address, run: Uuid) -> Result<Self, JobError> {
        let mut connection = Connection::open(address).await?;
        let server = info::must_ask(&mut connection).await?;
        info::refuse_cluster(&server)?;
        match server.role {
            Role::Primary => {}
            Role::Replica => return Err(RedisError::TargetIsReplica.into()),
        }
        let libraries = libraries(&mut connection).await?;
        let marked = mark::look(&mut connection, run).await?;
        Ok(Self {
            connection,
            server,
            libraries,
            marked,
        })
    }

    /// Returns how many keys there are, the mark not counted.
    pub(super) fn keys(&self) -> u64 {
        let all: u64 = self.server.keys.values().sum();
        let marks = match self.marked {
            Marked::ByThisRun | Marked::ByAnother(_) => 1,
            Marked::No | Marked::NoMark => 0,
        };
        all.saturating_sub(marks)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys() == 0 && self.libraries.as_ref().is_none_or(Vec::is_empty)
    }

    /// Describes what is there.
    pub(super) fn found(&self) -> String {
        let mut found = Vec::new();
        if let Marked::ByAnother(run) = &self.marked {
            found.push(format!(
                "the mark of a restore that did not end (run {run}, key {MARK})"
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

    /// Makes sure that the server can take the backup and lets us write, as far as that can be known without writing.
    ///
    /// Nothing is written: a payload of no type is refused after its version was looked at, and the probe's key does not
    /// exist.
    pub(super) async fn can_take(&mut self, census: &Census, run: Uuid) -> Result<(), JobError> {
        let highest = census.keys.keys().next_back().copied();
        self.has_database(highest.unwrap_or(0)).await?;
        self.can_load(census).await?;
        let probe = format!("{MARK}:{run}");
        let connection = &mut self.connection;
        let doing = "remove keys (UNLINK)";
        connection
            .ask(doing, &[b"UNLINK", probe.as_bytes()])
            .await?;
        self.can_restore(census, probe.as_bytes()).await
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

    async fn can_load(&mut self, census: &Census) -> Result<(), JobError> {
        if census.summary.functions == 0 {
            return Ok(());
        }
        if self.libraries.is_none() {
            return Err(RedisError::NoFunctions {
                target: self.server.version.clone(),
            }
            .into());
        }
        // No library has no first line: whoever may load is told so.
        let doing = "load functions (FUNCTION LOAD)";
        match self
            .connection
            .try_to(doing, &[b"FUNCTION", b"LOAD", b"REPLACE", b""])
            .await?
        {
            Err(fault) if fault.code() != Some("ERR") => Err(meaning(doing, fault)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn can_restore(&mut self, census: &Census, probe: &[u8]) -> Result<(), JobError> {
        let payload = payload_of_no_type(census.summary.version);
        let words: [&[u8]; 6] = [b"RESTORE", probe, b"0", &payload, b"REPLACE", b"ABSTTL"];
        let said = self
            .connection
            .try_to("write keys (RESTORE)", &words)
            .await?;
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
            Verdict::No => Err(super::fill::cannot_write(source)),
        }
    }
}

/// What a server says of a payload that no server could take.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It understood everything but the type.
    CanRestore,
    /// It does not take this version.
    OtherVersion,
    /// It does not take anything now, or not from us.
    No,
}

fn verdict(fault: &ServerFault) -> Verdict {
    // The server's code is the same for both, and these words are all it gives; they are the same since 2.6.
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

/// Asks for the function libraries. `None` where the server knows no functions.
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

/// Reads `library_name`, name, …
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
