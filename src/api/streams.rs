//! How many event streams may be open at once, in all and per token?

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;

/// How many streams one token may have open, so that others get some too.
const OF_ONE_TOKEN: usize = 16;

/// Counts the open streams of each token.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    most: usize,
    open: Arc<Mutex<HashMap<Uuid, usize>>>,
}

impl Streams {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            open: Arc::default(),
        }
    }

    /// Returns a place for one more of this token's streams, if there is one. Dropping it gives it back.
    pub(super) fn open(&self, token: Uuid) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= self.most {
            return None;
        }
        let mine = open.entry(token).or_default();
        if *mine >= OF_ONE_TOKEN {
            return None;
        }
        *mine += 1;
        Some(Place {
            of: self.clone(),
            token,
        })
    }
}

/// One stream's place.
#[derive(Debug)]
pub(super) struct Place {
    of: Streams,
    token: Uuid,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.of.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = open.get_mut(&self.token) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                open.remove(&self.token);
            }
        }
    }
}
