//! Lets restore points expire that nothing keeps any more, resource by resource, each once an hour.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt as _;
use lastgood_jobs::{error::chain, resource::Engine};
use sqlx::{PgConnection, PgTransaction};
use uuid::Uuid;

use super::ask::{Asked, enqueue};
use crate::{
    catalog::{
        Catalog, CatalogError, JUDGED_AT_ONCE, JudgedPoint, Retained, leave_out, let_go,
        points_to_judge,
    },
    metrics,
    plan::Plans,
    retention::{Decision, Expired, Policy, decide},
    run::RunKind,
};

/// How many resources are judged in one transaction.
const RESOURCES_AT_ONCE: i64 = 100;
/// If two clocks differ by more than this, no age can be trusted. It is longer than a slow answer and shorter than any retention.
const CLOCKS_APART: TimeDelta = TimeDelta::hours(1);
/// How many removals of one engine may wait or run: more would only lengthen the queue.
const REMOVALS_WAITING: i64 = 500;

/// Judges the points of the resources that are due, and lets those expire that nothing keeps. Returns how many expired.
///
/// Any number of producers may do so at once. `plans` must come from a file: under the built-in plans, which stand in for a file that is
/// missing or broken, nothing may expire. `clock` is this machine's clock. While it and the catalog's are more than an hour apart, no age
/// is known and nothing expires: [`CatalogError::ClocksApart`]. Nor does anything expire while restore points have disappeared from a
/// store en masse: [`CatalogError::StoreVanished`].
pub async fn retain(
    catalog: &Catalog,
    plans: &Plans,
    grace: TimeDelta,
    clock: impl Fn() -> DateTime<Utc> + Send + Sync,
) -> Result<u64, CatalogError> {
    let mut gone = 0;
    loop {
        nothing_vanished(catalog).await?;
        let now = clock();
        let batch = match batch(catalog, plans, grace, now, None).await {
            Err(error) if error.is_of_a_row() => {
                resource_by_resource(catalog, plans, grace, now).await?
            }
            batch => batch?,
        };
        gone += batch.gone;
        if batch.resources < RESOURCES_AT_ONCE {
            return Ok(gone);
        }
    }
}

/// Fails if restore points have disappeared from some store en masse: the remaining ones may be all there is.
async fn nothing_vanished(catalog: &Catalog) -> Result<(), CatalogError> {
    match catalog.vanished_store().await? {
        Some(store) => Err(CatalogError::StoreVanished(store)),
        None => Ok(()),
    }
}

/// Enqueues removals of expired points, and returns how many. Leaves out points that already have such a run, whose removal failed within
/// the last hour, or whose store refused it within the last week.
pub async fn ask_for_removals(catalog: &Catalog) -> Result<u64, CatalogError> {
    nothing_vanished(catalog).await?;
    let engines = Engine::ALL.map(|engine| engine.to_string());
    let due = sqlx::query_file_as!(
        Asked,
        "src/producer/upkeep/expire.sql",
        &engines,
        REMOVALS_WAITING
    )
    .fetch_all(catalog.pool())
    .await?;
    enqueue(catalog, RunKind::Expire, due).await
}

#[derive(Default)]
struct Batch {
    resources: i64,
    gone: u64,
}

/// Judges a batch that the catalog refuses, leaving out for an hour the resources that it refuses alone.
async fn resource_by_resource(
    catalog: &Catalog,
    plans: &Plans,
    grace: TimeDelta,
    here: DateTime<Utc>,
) -> Result<Batch, CatalogError> {
    let mut transaction = catalog.pool().begin().await?;
    let due = due(&mut transaction, None).await?;
    transaction.rollback().await?;
    let ids = due.into_iter().map(|resource| resource.id).collect();
    let statement = |ids| batch(catalog, plans, grace, here, Some(ids)).boxed();
    let (batches, left_out) = leave_out(ids, statement).await?;
    let mut all = Batch::default();
    for batch in batches {
        all.resources += batch.resources;
        all.gone += batch.gone;
    }
    metrics::rows_left_out("retain", left_out.len() as u64);
    let mut is_last = false;
    for (resource, error) in left_out {
        tracing::error!(resource.id = %resource, error = chain(&error), "the catalog refuses to let restore points of this resource go: none of them expires");
        all.resources += 1;
        let postponed = sqlx::query!(
            "update lastgood.retention set look_at = now() + interval '1 hour' where resource_id = $1",
            resource
        )
        .execute(catalog.pool())
        .await
        .map_err(CatalogError::from);
        match postponed {
            Ok(_) => {}
            // The resource stays due, so this look ends here: it would come back in every batch.
            Err(error) if error.is_of_a_row() => is_last = true,
            Err(error) => return Err(error),
        }
    }
    if is_last {
        all.resources = all.resources.min(RESOURCES_AT_ONCE - 1);
    }
    Ok(all)
}

/// Judges the resources that are due; with `only`, just these.
async fn batch(
    catalog: &Catalog,
    plans: &Plans,
    grace: TimeDelta,
    here: DateTime<Utc>,
    only: Option<Vec<String>>,
) -> Result<Batch, CatalogError> {
    let mut transaction = catalog.pool().begin().await?;
    let judged = judge(&mut transaction, plans, grace, here, only.as_deref()).await;
    if judged.is_ok() {
        transaction.commit().await?;
    } else {
        // Waits until the locks are released, because the caller next asks for rows that are not locked. Only the first error is reported.
        let _over_or_broken = transaction.rollback().await;
    }
    judged
}

async fn judge(
    transaction: &mut PgTransaction<'_>,
    plans: &Plans,
    grace: TimeDelta,
    here: DateTime<Utc>,
    only: Option<&[String]>,
) -> Result<Batch, CatalogError> {
    let now = sqlx::query_scalar!(r#"select now() as "now!""#)
        .fetch_one(&mut **transaction)
        .await?;
    if (now - here).abs() > CLOCKS_APART {
        return Err(CatalogError::ClocksApart {
            minutes: (now - here).num_minutes(),
        });
    }
    let resources = due(transaction, only).await?;
    let judged = judged(&resources, plans, grace, now);
    let known: Vec<(&Retained, &Policy)> =
        judged.iter().map(|(it, policy)| (*it, policy)).collect();
    let mut points = HashMap::<String, Vec<JudgedPoint>>::new();
    for point in points_to_judge(&mut **transaction, &known).await? {
        points
            .entry(point.resource_id.clone())
            .or_default()
            .push(point);
    }

    let mut candidates = Candidates::default();
    let mut looked_at = LookedAt::default();
    for (resource, policy) in &judged {
        let points = points.remove(&resource.id).unwrap_or_default();
        candidates.add(resource, policy, points, now);
        looked_at.add(resource, policy)?;
    }
    let gone = candidates.let_go(transaction).await?;
    // Resources with too many points for one look, or that changed meanwhile, are looked at again soon.
    let again = candidates.again;
    looked_at.record(transaction, &resources, &again).await?;
    Ok(Batch {
        resources: i64::try_from(resources.len()).unwrap_or(i64::MAX),
        gone,
    })
}

/// Returns the resources that are due, and those that a clock running ahead has put off for too long; with `only`, just these.
async fn due(
    transaction: &mut PgTransaction<'_>,
    only: Option<&[String]>,
) -> Result<Vec<Retained>, CatalogError> {
    let rows = sqlx::query_as!(
        Retained,
        r#"select r.id, r.tier, r.status, r.retention_days, known.record, known.look_at as "look_at?",
             num_nonnulls(r.connection_ref, r.connection_sealed) = 1 as "is_connected!"
           from lastgood.retention as known join lastgood.resources as r on r.id = known.resource_id
           where (known.look_at <= now() or known.look_at > now() + interval '1 day') and ($2::text[] is null or r.id = any ($2))
           order by known.look_at limit $1 for no key update of known skip locked"#,
        RESOURCES_AT_ONCE,
        only
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(rows)
}

/// Returns the policy of each resource. A resource whose record cannot be read is left out, so that none of its points expires.
fn judged<'a>(
    resources: &'a [Retained],
    plans: &Plans,
    grace: TimeDelta,
    now: DateTime<Utc>,
) -> Vec<(&'a Retained, Policy)> {
    let policy = |resource: &'a Retained| match resource.policy(plans, grace, now) {
        Ok(policy) => Some((resource, policy)),
        Err(error) => {
            tracing::error!(
                resource.id = resource.id,
                error = chain(&error),
                "cannot judge this resource's restore points: none of them expires"
            );
            None
        }
    };
    resources.iter().filter_map(policy).collect()
}

/// The points that nothing keeps, as far as is known before they are locked.
#[derive(Default)]
struct Candidates<'a> {
    resources: Vec<&'a Retained>,
    points: Vec<(&'a Retained, Uuid, String)>,
    again: Vec<String>,
}

impl<'a> Candidates<'a> {
    fn add(
        &mut self,
        resource: &'a Retained,
        policy: &Policy,
        points: Vec<JudgedPoint>,
        now: DateTime<Utc>,
    ) {
        let points: Vec<_> = points.into_iter().map(|judged| judged.point).collect();
        let before = self.points.len();
        for verdict in decide(&points, policy, now) {
            match verdict.decision {
                Decision::Keep(_) | Decision::Expire(Expired::Already) => {}
                Decision::Expire(why) => {
                    self.points.push((resource, verdict.point, why.to_string()));
                }
            }
        }
        if self.points.len() > before {
            self.resources.push(resource);
        }
        let most = usize::try_from(JUDGED_AT_ONCE).unwrap_or(usize::MAX);
        if policy.oldest_needed().is_some() && self.points.len() - before >= most {
            self.again.push(resource.id.clone());
        }
    }

    /// Locks the resources, as a tick and a finish do, and lets points of those expire that have not changed since.
    async fn let_go(&mut self, connection: &mut PgConnection) -> Result<u64, CatalogError> {
        if self.points.is_empty() {
            return Ok(0);
        }
        let ids: Vec<String> = self
            .resources
            .iter()
            .map(|resource| resource.id.clone())
            .collect();
        let locked = sqlx::query!(
            "select id, tier, status, retention_days from lastgood.resources
             where id = any($1) order by id for no key update",
            &ids
        )
        .fetch_all(&mut *connection)
        .await?;
        let is_as_judged = |resource: &Retained| {
            locked.iter().any(|now| {
                now.id == resource.id
                    && now.tier == resource.tier
                    && now.status == resource.status
                    && now.retention_days == resource.retention_days
            })
        };
        let changed: Vec<&str> = self
            .resources
            .iter()
            .filter(|resource| !is_as_judged(resource))
            .map(|resource| resource.id.as_str())
            .collect();
        let (points, because): (Vec<_>, Vec<_>) = self
            .points
            .iter()
            .filter(|(resource, _, _)| !changed.contains(&resource.id.as_str()))
            .map(|(_, point, because)| (*point, because.clone()))
            .unzip();
        self.again.extend(changed.into_iter().map(str::to_owned));
        let_go(connection, &points, &because).await
    }
}

/// The promises to each resource, as this look saw them.
#[derive(Default)]
struct LookedAt {
    ids: Vec<String>,
    records: Vec<Option<serde_json::Value>>,
}

impl LookedAt {
    fn add(&mut self, resource: &Retained, policy: &Policy) -> Result<(), CatalogError> {
        let record = policy
            .record
            .as_ref()
            .map(serde_json::to_value)
            .transpose()
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        self.ids.push(resource.id.clone());
        self.records.push(record);
        Ok(())
    }

    async fn record(
        self,
        connection: &mut PgConnection,
        resources: &[Retained],
        again: &[String],
    ) -> Result<(), CatalogError> {
        let all: Vec<String> = resources
            .iter()
            .map(|resource| resource.id.clone())
            .collect();
        sqlx::query!(
            "update lastgood.retention
             set look_at = now() + case when resource_id = any($2) then interval '1 minute' else interval '1 hour' end
             where resource_id = any($1)",
            &all,
            again
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!(
            "update lastgood.retention as known set record = seen.record
             from unnest($1::text[], $2::jsonb[]) as seen (resource_id, record)
             where known.resource_id = seen.resource_id and known.record is distinct from seen.record",
            &self.ids,
            &self.records as &[Option<serde_json::Value>]
        )
        .execute(&mut *connection)
        .await?;
        Ok(())
    }
}
