//! What is heard of servers while none is found: why none is, where that is not that they are away.

use std::sync::{Arc, Mutex, PoisonError};

use mongodb::{
    error::{Error, ErrorKind},
    event::{
        EventHandler,
        sdam::{SdamEvent, ServerDescriptionChangedEvent},
    },
};

use super::error::MongodbError;

/// What was heard last. Cloned, it hears for all.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    /// Why a server's certificate was refused.
    certificate: Option<String>,
    /// The name of the replica set that a server says it is of.
    replica_set: Option<String>,
    /// The latest version of the protocol that a server speaks.
    wire_version: Option<i32>,
}

/// The oldest version of the wire protocol that the driver speaks: MongoDB 4.4.
const WIRE_VERSION_MIN: i32 = 9;

impl Watch {
    /// Returns what tells the driver's events to this.
    pub(super) fn handler(&self) -> EventHandler<SdamEvent> {
        let watch = self.clone();
        EventHandler::callback(move |event: SdamEvent| watch.hear(&event))
    }

    fn hear(&self, event: &SdamEvent) {
        if let SdamEvent::ServerHeartbeatFailed(failed) = event {
            self.heard(|it| it.certificate = refused_certificate(&failed.failure));
        } else if let SdamEvent::ServerHeartbeatSucceeded(told) = event {
            self.heard(|it| {
                let told = &told.reply;
                it.replica_set = told.get_str("setName").ok().map(str::to_owned);
                it.wire_version = told.get_i32("maxWireVersion").ok();
                it.certificate = None;
            });
        } else if let SdamEvent::ServerDescriptionChanged(changed) = event {
            let ServerDescriptionChangedEvent {
                new_description, ..
            } = &**changed;
            if let Some(error) = new_description.error() {
                let refused = refused_certificate(error);
                self.heard(|it| it.certificate = refused.or(it.certificate.take()));
            }
        }
    }

    fn heard(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns why no server can be found, and none will be, whoever waits: `replica_set` is the name that the URL asks for.
    pub(super) fn verdict(&self, replica_set: Option<&str>) -> Option<MongodbError> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &heard.certificate {
            return Some(MongodbError::Certificate { why: why.clone() });
        }
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

fn refused_certificate(error: &Error) -> Option<String> {
    let ErrorKind::Io(error) = &*error.kind else {
        return None;
    };
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    if let rustls::Error::InvalidCertificate(why) = error {
        return Some(format!("{why:?}"));
    }
    None
}
