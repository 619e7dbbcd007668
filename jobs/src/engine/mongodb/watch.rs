//! What servers report while none can be selected: it may show a reason other than that they are away.

use std::sync::{Arc, Mutex, PoisonError};

use mongodb::event::{EventHandler, sdam::SdamEvent};

use super::wire::Wire;
use crate::error::MongodbError;

/// What was heard last. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    /// The name of the server's replica set, as it reports it.
    replica_set: Option<String>,
    /// The latest version of the wire protocol that a server speaks.
    wire_version: Option<i32>,
}

/// The oldest version of the wire protocol that the driver speaks: MongoDB 4.4.
const WIRE_VERSION_MIN: i32 = 9;

impl Watch {
    /// Returns the handler that passes the driver's events to this watch.
    ///
    /// The handler also keeps the wire open for as long as the driver keeps the handler: until the last part of the
    /// client is gone, down to the last cursor that is closed in the background.
    pub(super) fn handler(&self, wire: Wire) -> EventHandler<SdamEvent> {
        let watch = self.clone();
        EventHandler::callback(move |event: SdamEvent| {
            let _kept_open = &wire;
            watch.hear(&event);
        })
    }

    fn hear(&self, event: &SdamEvent) {
        if let SdamEvent::ServerHeartbeatSucceeded(told) = event {
            self.heard(|it| {
                let told = &told.reply;
                it.replica_set = told.get_str("setName").ok().map(str::to_owned);
                it.wire_version = told.get_i32("maxWireVersion").ok();
            });
        }
    }

    fn heard(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns why waiting for a server is useless, if it is. `replica_set` is the name that the URL asks for.
    pub(super) fn verdict(&self, replica_set: Option<&str>) -> Option<MongodbError> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = heard.wire_version.filter(|it| *it < WIRE_VERSION_MIN) {
            return Some(MongodbError::TooOld {
                wire_version: version,
            });
        }
        let asked = replica_set?;
        // Without an answer there is no verdict.
        heard.wire_version?;
        match &heard.replica_set {
            Some(found) if found == asked => None,
            found => Some(MongodbError::ReplicaSetName {
                asked: asked.to_owned(),
                found: found.clone(),
            }),
        }
    }
}
