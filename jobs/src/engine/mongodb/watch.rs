//! What is heard of servers while none is found: why none is, where that is not that they are away.

use std::sync::{Arc, Mutex, PoisonError};

use mongodb::event::{EventHandler, sdam::SdamEvent};

use super::{error::MongodbError, wire::Wire};

/// What was heard last. Cloned, it hears for all.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    /// The name of the replica set that a server says it is of.
    replica_set: Option<String>,
    /// The latest version of the protocol that a server speaks.
    wire_version: Option<i32>,
}

/// The oldest version of the wire protocol that the driver speaks: MongoDB 4.4.
const WIRE_VERSION_MIN: i32 = 9;

impl Watch {
    /// Returns what tells the driver's events to this. The way to the servers is open for as long as the driver keeps it: for as
    /// long as anything of the client is left, down to the last cursor that is closed in passing.
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

    /// Returns why no server can be found, and none will be, whoever waits: `replica_set` is the name that the URL asks for.
    pub(super) fn verdict(&self, replica_set: Option<&str>) -> Option<MongodbError> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = heard.wire_version.filter(|it| *it < WIRE_VERSION_MIN) {
            return Some(MongodbError::TooOld {
                wire_version: version,
            });
        }
        let asked = replica_set?;
        // No answer, no verdict.
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
