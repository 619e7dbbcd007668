//! Remembers why connections to servers failed, for the error that explains it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::MongodbError;

/// The most servers that are remembered.
const PLACES_MAX: usize = 64;
/// How many of them an error names.
const PLACES_SHOWN: usize = 3;
/// How many characters of a trouble are kept.
const CHARS_KEPT: usize = 200;

/// Why a connection failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server's certificate is not trusted.
    Certificate(String),
    /// There was no connection, or no answer.
    Away(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(why) => write!(f, "its certificate is not trusted ({why})"),
            Self::Away(why) => f.write_str(why),
        }
    }
}

/// What was heard last of each server. Clones share it.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Heard(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    /// Why an answer was refused.
    refused: Option<String>,
    troubles: BTreeMap<String, Trouble>,
}

impl Heard {
    /// Returns why waiting for a server is useless, if it is.
    pub(in super::super) fn verdict(&self) -> Option<MongodbError> {
        let memory = self.memory();
        if let Some(what) = &memory.refused {
            return Some(MongodbError::Unbelievable { what: what.clone() });
        }
        memory.troubles.values().find_map(|trouble| match trouble {
            Trouble::Certificate(why) => Some(MongodbError::Certificate { why: why.clone() }),
            Trouble::Away(_) => None,
        })
    }

    /// Returns what is wrong with each server, if anything is.
    pub(in super::super) fn told(&self) -> Option<String> {
        let memory = self.memory();
        let troubles = memory.troubles.iter().take(PLACES_SHOWN);
        let told: Vec<_> = troubles
            .map(|(place, trouble)| format!("{place}: {trouble}"))
            .collect();
        let more = match memory.troubles.len().saturating_sub(PLACES_SHOWN) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        (!told.is_empty()).then(|| format!("{}{more}", told.join("; ")))
    }

    /// Records that an answer was refused.
    pub(super) fn refused(&self, what: &str) {
        self.memory().refused = Some(what.to_owned());
    }

    /// Records that a server cannot be reached.
    pub(super) fn away(&self, place: &str, trouble: Trouble) {
        let mut memory = self.memory();
        if memory.troubles.len() < PLACES_MAX || memory.troubles.contains_key(place) {
            memory
                .troubles
                .insert(place.to_owned(), trouble.shortened());
        }
    }

    /// Records that a server has answered.
    pub(super) fn answered(&self, place: &str) {
        self.memory().troubles.remove(place);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    fn shortened(self) -> Self {
        let cut = |why: String| why.chars().take(CHARS_KEPT).collect();
        match self {
            Self::Certificate(why) => Self::Certificate(cut(why)),
            Self::Away(why) => Self::Away(cut(why)),
        }
    }
}
