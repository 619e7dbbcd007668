//! What a noun looks like in JSON: the command line's `--json` and the HTTP API answer with these shapes, and with no others for these
//! nouns.
//!
//! The rules for names are in docs/reference/nouns.md: a noun's own identity is `id`, a reference is named after the noun that it leads to,
//! booleans begin with `is_`, and what a person said is a `reason`, what lastgood found a `because`.

mod audit;
mod consumer;
mod key;
mod pause;
mod point;
mod problem;
mod promise;
mod proof;
mod resource;
mod run;
mod signing_key;
mod status;
mod store;
mod tier;
mod token;

pub use self::{
    audit::AuditEntry,
    consumer::{Consumer, ConsumerState},
    key::Key,
    pause::{Drained, Pause, PauseCost},
    point::{Point, PointAndManifest},
    problem::{ProblemDetails, ProblemKind, Told},
    promise::{BrokenTime, KeptPromise, PromiseReport, PromiseStatement},
    proof::Proof,
    resource::{Resource, ResourceStatus},
    run::{Attempt, OrderedRun, Restoring, Run, RunAndAttempts, RunningRun},
    signing_key::SigningKey,
    status::{
        ClosedDatabase, InfeasiblePromise, QuarantinedPoint, QueueDepth, StoreFault, StuckRun,
        SuspectPoint, Suspended, UnknownTier,
    },
    store::{Role, Store},
    tier::{HEADINGS, Tier, tiers},
    token::{Token, TokenAndSecret},
};
