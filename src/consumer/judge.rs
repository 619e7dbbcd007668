//! Does an error condemn a restore point, or is it temporary? A store that cannot be reached has lost nothing.

use lastgood_jobs::{
    error::{Damage, ErrorKind, JobError, KeyError},
    manifest::VERSION,
};

use super::{Shared, handle::READ_WITHIN};
use crate::{
    catalog::{PointRow, answered},
    proof::{self, Because, NewProof, ProofKind},
    queue::{Condemned, Failure, Lacking},
    stores::NamedStore,
};

/// What went wrong with a point in one store.
pub(super) type Fault<'a> = (&'a NamedStore, JobError);

/// Returns the failure of a job whose every attempt to read a restore point failed, one fault per store, and condemns the point if all
/// stores have lost it. A store that cannot be read, or is the wrong one, may hold the point intact, so that it is not condemned.
///
/// The ledger records what condemns a point, as found by a job of this `kind`.
pub(super) async fn judge(
    faults: Vec<Fault<'_>>,
    point: &PointRow,
    kind: ProofKind,
    shared: &Shared,
) -> Failure {
    if let Some((_, error)) = faults.iter().find(|(_, error)| is_shredded(error)) {
        let because = Because::new("key_shredded", error.report());
        let proof = NewProof::new(kind, point.id, proof::Verdict::NotPossible(because));
        return Failure {
            condemned: Some(Condemned::Shredded(point.id)),
            proof: Some(proof.into()),
            ..Failure::permanent(error.kind(), error.report())
        };
    }
    let mut guilty = None::<JobError>;
    for (store, error) in faults {
        let doubt = match verdict(&error, store, point, shared).await {
            Verdict::Guilty => {
                guilty.get_or_insert(error);
                continue;
            }
            Verdict::NotProven => Failure::from(error),
            Verdict::WrongStore => Failure::retryable(
                ErrorKind::Storage,
                format!(
                    "{}; other restore points are missing too: check that store {:?} is mounted and is the right one \
                     (--storage, --stores); nothing was quarantined",
                    error.report(),
                    store.name
                ),
            ),
        };
        return match guilty {
            None => doubt,
            Some(error) => Failure {
                message: format!(
                    "{}; store {:?} cannot be read: {}",
                    error.report(),
                    store.name,
                    doubt.message
                ),
                permanent: false,
                ..doubt
            },
        };
    }
    match guilty {
        None => Failure::permanent(ErrorKind::Config, "no store is configured"),
        Some(error) => {
            let because = Because::new("damaged", error.report());
            let proof = NewProof::new(kind, point.id, proof::Verdict::Failed(because));
            Failure {
                permanent: true,
                condemned: Some(Condemned::Damaged(point.id)),
                proof: Some(proof.into()),
                ..Failure::from(error)
            }
        }
    }
}

/// Returns which of these stores lack a point that another store has provided intact, so that it is copied to them again. A store that
/// cannot be read, or is the wrong one, is left out.
pub(super) async fn lacking(faults: &[Fault<'_>], point: &PointRow, shared: &Shared) -> Lacking {
    let mut stores = Vec::new();
    for (store, error) in faults {
        if matches!(verdict(error, store, point, shared).await, Verdict::Guilty) {
            stores.push(store.name.clone());
        }
    }
    Lacking {
        point: point.id,
        stores,
    }
}

async fn verdict(
    error: &JobError,
    store: &NamedStore,
    point: &PointRow,
    shared: &Shared,
) -> Verdict {
    match blame(error) {
        Blame::Elsewhere => Verdict::NotProven,
        Blame::Point | Blame::Absence if is_beyond_us(point) => Verdict::NotProven,
        Blame::Point => Verdict::Guilty,
        Blame::Absence => is_missed_alone(point, store, shared).await,
    }
}

/// Returns whether the archive's key was shredded. The recorded manifest names the key, so no store can hold a readable archive.
pub(super) fn is_shredded(error: &JobError) -> bool {
    matches!(error, JobError::Key(KeyError::Shredded { .. }))
}

/// Returns whether this build may not judge the point: an expired one is being removed, and a manifest may have another version in the
/// middle of an upgrade.
fn is_beyond_us(point: &PointRow) -> bool {
    let version = point
        .manifest
        .get("version")
        .and_then(serde_json::Value::as_u64);
    point.expired_at.is_some() || version != Some(VERSION.into())
}

enum Blame {
    /// The bytes that were read are wrong.
    Point,
    /// Nothing was found where the point should be.
    Absence,
    /// The error says nothing about the point.
    Elsewhere,
}

enum Verdict {
    Guilty,
    NotProven,
    WrongStore,
}

fn blame(error: &JobError) -> Blame {
    if let JobError::NoSuchPoint { .. }
    | JobError::Damaged {
        source: Damage::Missing,
        ..
    } = error
    {
        return Blame::Absence;
    }
    match error.kind() {
        ErrorKind::Corrupt => Blame::Point,
        ErrorKind::Config
        | ErrorKind::Auth
        | ErrorKind::Connect
        | ErrorKind::Tool
        | ErrorKind::Dump
        | ErrorKind::Storage
        | ErrorKind::Target
        | ErrorKind::Restore
        | ErrorKind::LeaseLost
        | ErrorKind::Internal => Blame::Elsewhere,
    }
}

/// Decides whether a missing point alone is to blame. A directory that is not mounted, or the wrong bucket, lacks all other points too.
async fn is_missed_alone(point: &PointRow, store: &NamedStore, shared: &Shared) -> Verdict {
    let asked = shared.catalog.other_manifest_keys(point.id, &store.name);
    let Ok(others) = answered(READ_WITHIN, asked).await else {
        return Verdict::NotProven;
    };
    if others.is_empty() {
        return Verdict::Guilty;
    }
    for key in others {
        match store.storage.manifest(&key).await {
            Ok(Some(_)) | Err(JobError::BadManifest { .. }) => return Verdict::Guilty,
            Ok(None) => {}
            Err(_) => return Verdict::NotProven,
        }
    }
    Verdict::WrongStore
}
