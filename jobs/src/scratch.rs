//! Where can a restore point be restored only to see whether it can be? A server that this process starts for it alone.
//!
//! The promise: the server is reached through a socket in a directory that nobody else may enter, or on the loopback with
//! a random password; no secret stands in an argument or in an environment; nothing of this process's environment reaches
//! it; it is as large as the caller allows; and it is gone, with its files, when the value is dropped, or, if this
//! process is killed, after the next [`sweep()`].
//!
//! Not promised: that its data survives anything. It is written without waiting for the disk.
//!
//! What a consumer's machine lacks is [`NotPossible`], which says nothing about the restore point.

mod bounds;
mod configured;
mod error;
mod home;
mod mongodb;
mod postgres;
mod processes;
mod programs;
mod redis;
mod server;
mod sweep;

use std::{io, path::PathBuf};

use secrecy::SecretString;

use self::{configured::Configured, server::Server};
pub use self::{
    configured::{start_on_configured_postgres, sweep_configured_postgres},
    error::{NotPossible, StartError},
    mongodb::start_mongodb,
    postgres::{ReplacedLocale, start_postgres},
    programs::{Flavour, ServerPrograms, Version},
    redis::start_redis,
    sweep::{Swept, sweep},
};
use crate::{
    attempt::RunId,
    manifest::{Details, Manifest},
};

/// Where drills may put their servers, and how large these may grow.
#[derive(Debug, Clone)]
pub struct ScratchSpace {
    /// The directory for drills, which must belong to this process's user alone. Made if it is not there.
    pub dir: PathBuf,
    /// The most that a scratch server may take, on disk or, for Redis and Valkey, in memory.
    pub max_bytes: u64,
    /// Who the servers run as, if not as this process: PostgreSQL refuses to run as root. Only root can choose.
    pub run_as: Option<RunAs>,
}

/// A user and a group of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunAs {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// What a drill asks of a server of any engine.
#[derive(Debug, Clone, Copy)]
pub struct Drill {
    /// The drill's run, which names its directory.
    pub run: RunId,
    /// The dump's size before compression.
    pub dump_bytes: u64,
}

/// A server, or a database on a configured server, that belongs to this value alone.
///
/// Dropping it ends the server and removes its files, or drops the database: in the background if there is a runtime, and
/// [`detached::settled`](crate::detached::settled) waits for that. [`stop`](Self::stop) tells whether it succeeded.
#[derive(Debug)]
pub struct Scratch {
    place: Place,
    url: SecretString,
    admin_url: Option<SecretString>,
    version: String,
    replaced_locale: Option<ReplacedLocale>,
}

#[derive(Debug)]
enum Place {
    Own(Box<Server>),
    Configured(Box<Configured>),
}

/// Starts a server that can hold a restore point, of the engine and version that its manifest names.
pub async fn start(
    programs: &ServerPrograms,
    space: &ScratchSpace,
    run: RunId,
    manifest: &Manifest,
) -> Result<Scratch, StartError> {
    let drill = Drill {
        run,
        dump_bytes: manifest.dump.size_bytes,
    };
    match &manifest.details {
        Details::Postgres {
            server_major,
            properties,
            ..
        } => start_postgres(programs, space, drill, *server_major, properties).await,
        Details::Mongodb { .. } => {
            let wanted = Version::find(&manifest.server_version).unwrap_or_default();
            start_mongodb(programs, space, drill, wanted).await
        }
        Details::Redis { rdb_version, .. } => {
            let flavour = Flavour::of(&manifest.server_version);
            start_redis(programs, space, drill, flavour, *rdb_version).await
        }
    }
}

impl Scratch {
    /// Returns the URL to restore into, which its engine's address accepts.
    ///
    /// On PostgreSQL it names a database whose owner is no superuser: the dump's own functions run as this role. On
    /// MongoDB, Redis and Valkey it names the whole server.
    #[must_use]
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// Returns the URL of a superuser in the same database, to create extensions that its owner may not create. `None` if
    /// there is none: on other engines, and on a configured server.
    #[must_use]
    pub fn admin_url(&self) -> Option<&SecretString> {
        self.admin_url.as_ref()
    }

    /// Returns what the server is, such as `PostgreSQL 18.6`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the locale that this machine does not have, and what was used instead; `None` if nothing was replaced.
    #[must_use]
    pub fn replaced_locale(&self) -> Option<&ReplacedLocale> {
        self.replaced_locale.as_ref()
    }

    /// Returns how the server ended by itself, with the end of its log; `None` if it runs, or is not ours.
    ///
    /// A drill that fails and finds this has learnt nothing about the restore point.
    pub fn died(&mut self) -> Option<String> {
        match &mut self.place {
            Place::Own(server) => server.died(),
            Place::Configured(_) => None,
        }
    }

    /// Returns how much disk the server takes now, or the database on a configured server.
    pub async fn used_bytes(&self) -> Result<u64, StartError> {
        match &self.place {
            Place::Own(server) => {
                let dir = server.home()?.dir().to_owned();
                let used = tokio::task::spawn_blocking(move || bounds::used_bytes(&dir)).await;
                let used = used.map_err(io::Error::other).flatten();
                used.map_err(StartError::files("measure the directory"))
            }
            Place::Configured(database) => database.used_bytes().await,
        }
    }

    /// Ends the server and everything it started, and removes its files; or drops the database.
    ///
    /// Goes on to the end even if the caller stops waiting.
    pub async fn stop(self) -> Result<(), StartError> {
        match self.place {
            Place::Own(server) => {
                let ended = server.end().await;
                ended.map_err(StartError::files("remove the directory"))
            }
            Place::Configured(database) => database.end().await,
        }
    }
}
