//! Proves that a restore point can be restored: restores it into a server of its own, and compares what came back with
//! what was dumped.
//!
//! The customer's server takes no part. What a scratch server shows is what the archive holds, the list of contents that
//! was recorded when it was made, and whether this build restores it.

mod outcome;
mod verdict;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

pub use self::outcome::{Drilled, Outcome, Seconds, Unproven};
use crate::{
    archive,
    attempt::Attempt,
    contents::{self, Comparison, Contents},
    engine::{
        self,
        address::Address,
        postgres::drilled::{self, Indexes},
    },
    error::{Damage, JobError},
    job::{Restore, RestoreTarget},
    manifest::{Details, Manifest},
    resource::{Resource, ResourceOptions},
    scratch::{self, Scratch, ScratchSpace, ServerPrograms},
    sought::Sought,
    worker::Worker,
};

/// How often the size of a scratch server is measured.
const MEASURED_EVERY: Duration = Duration::from_secs(5);

/// What a consumer has for drills.
#[derive(Debug, Clone)]
pub struct Drills {
    /// The servers' programs on this machine.
    pub programs: ServerPrograms,
    /// Where their data may go.
    pub space: ScratchSpace,
}

/// Restores a restore point into a scratch server, and compares it with its list of contents, item by item.
///
/// An error says nothing about the restore point, unless it is [`JobError::Damaged`], [`JobError::BadManifest`] or
/// [`JobError::NoSuchPoint`], which mean what they mean for a verification. Everything else is an [`Outcome`].
///
/// The scratch server is gone when this returns. If this process is killed, the next [`scratch::sweep`] removes it.
pub async fn drill(
    attempt: Attempt,
    sought: &Sought<'_>,
    drills: &Drills,
    worker: &Worker,
) -> Result<Drilled, JobError> {
    let manifest = sought.read(&worker.storage).await?;
    let mut drilled = Drilled::of(&manifest);
    let Some(recorded) = &manifest.contents else {
        return Ok(drilled.ends(Outcome::nothing_recorded()));
    };
    if let Err(error) = recorded.frame_bytes() {
        return Ok(drilled.ends(Outcome::NotPossible {
            reason: Unproven::NewerList,
            because: error.to_string(),
        }));
    }
    let begun = Instant::now();
    let (storage, keyring) = (&worker.storage, &*worker.keyring);
    let expected = archive::contents(storage, keyring, &manifest.archive, recorded).await;
    let expected = match expected {
        // The archive has the right hash, so this is how it was written: it says nothing against the dump.
        Err(JobError::Damaged {
            source: Damage::Contents(because),
            ..
        }) => {
            let reason = Unproven::UnreadableList;
            return Ok(drilled.ends(Outcome::NotPossible { reason, because }));
        }
        expected => expected?,
    };
    drilled.seconds.verify = begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    let started = scratch::start(&drills.programs, &drills.space, attempt.run, &manifest).await;
    let mut scratch = match started {
        Ok(scratch) => scratch,
        Err(error) => match error.not_possible() {
            Some(reason) => {
                let outcome = Outcome::NotPossible {
                    reason: reason.into(),
                    because: reason.to_string(),
                };
                return Ok(drilled.ends(outcome));
            }
            None => return Err(verdict::of_start(&error)),
        },
    };
    drilled.seconds.start = begun.elapsed().as_secs_f64();
    drilled.server = Some(scratch.version().to_owned());

    if let Some(locale) = scratch.replaced_locale() {
        drilled.notes.push(format!(
            "the scratch server has no locale {}: its texts were sorted by {}",
            locale.wanted, locale.used
        ));
    }
    let most = drills.space.max_bytes;
    let tried = tokio::select! {
        tried = try_out(attempt, &manifest, &expected, &scratch, worker, &mut drilled) => tried,
        used = outgrown(&scratch, most) => Ok(Outcome::NotPossible {
            reason: Unproven::TooLarge,
            because: format!(
                "the restored data has {used} bytes and is not whole yet, and a drill may take {most}: raise --drill-max-bytes"
            ),
        }),
    };
    // A server that ran out of memory says nothing about the restore point.
    let died = scratch.died();
    if let Err(error) = scratch.stop().await {
        tracing::warn!(%error, "the drill's server was not removed: the next sweep tries again");
    }
    match (died, tried) {
        (Some(how), _) => Err(JobError::ScratchDied { how }),
        (None, Ok(outcome)) => Ok(drilled.ends(outcome)),
        (None, Err(error)) => Ok(drilled.ends(verdict::of(error)?)),
    }
}

/// Returns how much the scratch server takes once that is more than it may. What it takes beforehand is an estimate.
async fn outgrown(scratch: &Scratch, max_bytes: u64) -> u64 {
    let mut timer = tokio::time::interval(MEASURED_EVERY);
    loop {
        timer.tick().await;
        match scratch.used_bytes().await {
            Ok(used) if used > max_bytes => return used,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "cannot measure the drill's server"),
        }
    }
}

/// Restores, dumps again, and compares.
async fn try_out(
    attempt: Attempt,
    manifest: &Manifest,
    expected: &Contents,
    scratch: &Scratch,
    worker: &Worker,
    drilled: &mut Drilled,
) -> Result<Outcome, JobError> {
    let target = address(manifest, scratch.url())?;
    let admin = scratch.admin_url().map(|url| address(manifest, url));
    let admin = admin.transpose()?;
    let superuser = admin.as_ref().and_then(Address::as_postgres);

    let begun = Instant::now();
    if let (Some(superuser), Some(owner)) = (superuser, target.as_postgres())
        && let Details::Postgres { extensions, .. } = &manifest.details
    {
        let owner = owner.user();
        let created =
            drilled::create_extensions(superuser, owner, manifest, extensions, worker).await?;
        if let Some(because) = created {
            let reason = Unproven::ExtensionAbsent;
            return Ok(Outcome::NotPossible { reason, because });
        }
    }
    let resource = stand_in(manifest, target);
    let job = Restore {
        point: manifest.run_id.0,
        target: RestoreTarget::Reference {
            reference: "the drill's own server".to_owned(),
        },
        // The roles of the customer's server do not exist here.
        no_owner: true,
        no_acl: true,
        as_superuser: false,
        no_tablespaces: true,
        break_replication: false,
        of_owner: false,
    };
    let target = Some(&resource.address);
    let restored = engine::restore(attempt, &resource, &job, manifest, target, worker);
    let restored = Box::pin(restored).await?;
    drilled.notes.extend(restored.notes);
    drilled.seconds.restore = begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    let again = Resource {
        // A dump as the superuser sees every row, whatever row security says.
        address: admin.clone().unwrap_or_else(|| resource.address.clone()),
        ..resource.clone()
    };
    let mut found = dump_to_nowhere(&again, worker).await?;
    drilled::accept_other_versions(expected, &mut found);
    leave_out_own_users(expected, &mut found);
    let comparison = contents::compare(expected, &found, nothing_lapses_before(manifest));
    let indexes = match superuser {
        Some(superuser) if comparison.is_equal() => drilled::check_indexes(superuser).await?,
        Some(_) | None => Indexes::Sound,
    };
    drilled.seconds.check = begun.elapsed().as_secs_f64();
    let outcome = match indexes {
        Indexes::Broken { because } => Outcome::Failed { because },
        Indexes::Sound => judged(&comparison),
        Indexes::NotChecked => {
            let note = "the indexes were not checked: the scratch server has no amcheck, or it did not come to an end";
            drilled.notes.push(note.to_owned());
            judged(&comparison)
        }
    };
    drilled.comparison = Some(comparison);
    Ok(outcome)
}

/// Returns the instant before which nothing in the restored data can have expired by itself.
fn nothing_lapses_before(manifest: &Manifest) -> DateTime<Utc> {
    match &manifest.details {
        // A scratch MongoDB removes no document because of its age.
        Details::Mongodb { .. } => DateTime::UNIX_EPOCH,
        Details::Postgres { .. } | Details::Redis { .. } => Utc::now(),
    }
}

/// Removes the accounts that the scratch server has of its own.
fn leave_out_own_users(expected: &Contents, found: &mut Contents) {
    let is_dumped = |user: &contents::Item| {
        expected
            .items
            .iter()
            .any(|item| item.kind == user.kind && item.name == user.name)
    };
    found
        .items
        .retain(|item| !matches!(&*item.kind, "user" | "role") || is_dumped(item));
}

fn judged(comparison: &Comparison) -> Outcome {
    if comparison.is_equal() && comparison.is_of_names_only() {
        return Outcome::NotPossible {
            reason: Unproven::NothingComparable,
            because: "no row, document or key could be compared: all may have expired, or changed while they were dumped"
                .to_owned(),
        };
    }
    if comparison.is_equal() {
        return Outcome::Proven;
    }
    let first = comparison.differences.iter().take(3);
    let first: Vec<String> = first.map(ToString::to_string).collect();
    let because = format!(
        "{} of the dump's items came back otherwise: {}",
        comparison.differing,
        first.join("; ")
    );
    Outcome::Differs { because }
}

/// Dumps a resource as a backup does, and keeps nothing but the list of contents.
async fn dump_to_nowhere(resource: &Resource, worker: &Worker) -> Result<Contents, JobError> {
    let worker = Worker {
        storage: worker.storage.discarding(),
        encrypt_to: None,
        ..worker.clone()
    };
    let dumped = Box::pin(engine::dump(resource, "drill", &worker)).await?;
    Ok(dumped.items)
}

/// Returns the resource that the scratch server stands in for.
fn stand_in(manifest: &Manifest, address: Address) -> Resource {
    let users_and_roles = match &manifest.details {
        Details::Mongodb {
            users_and_roles, ..
        } => *users_and_roles,
        Details::Postgres { .. } | Details::Redis { .. } => false,
    };
    Resource {
        id: manifest.resource_id.clone(),
        team: manifest.team.clone(),
        tier: manifest.tier.clone(),
        engine: manifest.engine,
        address,
        options: ResourceOptions {
            users_and_roles,
            ..ResourceOptions::default()
        },
    }
}

/// Returns the address of the scratch server, or of the database of the same name on it.
fn address(manifest: &Manifest, url: &SecretString) -> Result<Address, JobError> {
    let database = match &manifest.details {
        Details::Mongodb {
            database: Some(database),
            ..
        } => database,
        Details::Mongodb { database: None, .. }
        | Details::Postgres { .. }
        | Details::Redis { .. } => return Address::parse(manifest.engine, url),
    };
    let Ok(mut named) = url.expose_secret().parse::<Url>() else {
        return Address::parse(manifest.engine, url);
    };
    named.set_path(database);
    Address::parse(manifest.engine, &SecretString::from(String::from(named)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Guards against a proof of names alone.
    #[rstest]
    #[case::of_an_empty_database(0, 0, "proven")]
    #[case::of_all_rows(5, 0, "proven")]
    #[case::of_some_keys(5, 1, "proven")]
    #[case::of_keys_that_may_all_have_expired(0, 1, "not_possible")]
    fn nothing_is_proven_where_nothing_could_be_compared(
        #[case] records: u64,
        #[case] left_out_items: u64,
        #[case] outcome: &str,
    ) {
        let comparison = Comparison {
            records,
            left_out_items,
            ..Comparison::default()
        };
        assert_eq!(judged(&comparison).as_str(), outcome);
    }
}
