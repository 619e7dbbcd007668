//! The facts that a span of time is judged by, as they are on record.

use std::collections::HashMap;

use chrono::TimeDelta;

use super::super::{Catalog, CatalogError};
use crate::promise::{Change, Counted, Fleet, Paused, Record, Service, Span, Terms};

impl Catalog {
    /// Returns what is on record of the whole fleet and matters to a span.
    pub async fn promise_fleet(&self, span: Span) -> Result<Fleet, CatalogError> {
        let mut fleet = Fleet::default();
        let terms = sqlx::query!(
            "select tier, since, rpo_minutes, tolerance_minutes from lastgood.tier_promises where since < $1 order by tier, since",
            span.until
        )
        .fetch_all(self.pool())
        .await?;
        for row in terms {
            let rpo = TimeDelta::minutes(row.rpo_minutes.into());
            fleet.terms.entry(row.tier).or_default().push(Terms {
                since: row.since,
                rpo,
                allowed: rpo + TimeDelta::minutes(row.tolerance_minutes.into()),
            });
        }
        let pauses = sqlx::query!(
            r#"select engine, tier, team, began_at, coalesce(ended_at, $2) as "ended_at!" from lastgood.past_pauses
               where began_at < $2 and (ended_at is null or ended_at > $1) order by began_at, nth"#,
            span.from,
            span.until
        )
        .fetch_all(self.pool())
        .await?;
        fleet.pauses = pauses
            .into_iter()
            .map(|row| Paused {
                engine: row.engine,
                tier: row.tier,
                team: row.team,
                span: Span {
                    from: row.began_at,
                    until: row.ended_at,
                },
            })
            .collect();
        let down = sqlx::query!(
            "select began_at, ended_at from lastgood.downtimes where began_at < $2 and ended_at > $1 order by began_at",
            span.from,
            span.until
        )
        .fetch_all(self.pool())
        .await?;
        fleet.down = down
            .into_iter()
            .map(|row| Span {
                from: row.began_at,
                until: row.ended_at,
            })
            .collect();
        Ok(fleet)
    }

    /// Returns what is on record of some resources and matters to a span.
    pub async fn promise_records(
        &self,
        resources: &[String],
        span: Span,
    ) -> Result<HashMap<String, Record>, CatalogError> {
        let registered = sqlx::query!(
            r#"select id, greatest(timestamptz '1900-01-01 00:00:00+00', least(
                   created_at, (select min(at) from lastgood.resource_changes as change where change.resource_id = r.id)
               )) as "registered_at!"
               from lastgood.resources as r where id = any ($1)"#,
            resources
        )
        .fetch_all(self.pool())
        .await?;
        let mut records: HashMap<_, _> = registered
            .into_iter()
            .map(|row| {
                let record = Record {
                    registered_at: row.registered_at,
                    changes: Vec::new(),
                    points: Vec::new(),
                };
                (row.id, record)
            })
            .collect();
        let changes = sqlx::query_file!(
            "src/catalog/promise/changes.sql",
            resources,
            span.from,
            span.until
        )
        .fetch_all(self.pool())
        .await?;
        for row in changes {
            if let Some(record) = records.get_mut(&row.resource_id) {
                record.changes.push(Change {
                    at: row.at,
                    team: row.team,
                    tier: row.tier,
                    engine: row.engine,
                    service: service(&row.service),
                });
            }
        }
        let points = sqlx::query_file!(
            "src/catalog/promise/points.sql",
            resources,
            span.from,
            span.until
        )
        .fetch_all(self.pool())
        .await?;
        for row in points {
            if let Some(record) = records.get_mut(&row.resource_id) {
                record.points.push(Counted {
                    consistent_at: row.consistent_at,
                    from: row.from,
                    until: row.until,
                });
            }
        }
        Ok(records)
    }
}

/// Returns the service of a stored name; what a later version wrote counts as suspended, of which nothing is claimed.
fn service(name: &str) -> Service {
    match name {
        "active" => Service::Active,
        "removed" => Service::Removed,
        _ => Service::Suspended,
    }
}
