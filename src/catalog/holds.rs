//! Which resources' RPOs does no cadence hold to the minute?

use chrono::{DateTime, TimeDelta, Utc};

use super::{Catalog, CatalogError};
use crate::{
    nouns::InfeasiblePromise,
    plan::{Hold, Plans, Rpo},
    schedule::Infeasible,
};

struct Row {
    id: String,
    team: String,
    tier: String,
    engine: String,
    rpo_minutes: i32,
    takes_seconds: i32,
    backups: i32,
    planned_at: DateTime<Utc>,
}

impl Catalog {
    /// Returns resources whose RPO no cadence holds, of one team or of all, those that lack most first.
    pub async fn infeasible(
        &self,
        plans: &Plans,
        team: Option<&str>,
        limit: i64,
    ) -> Result<Vec<InfeasiblePromise>, CatalogError> {
        let rows = sqlx::query_file_as!(
            Row,
            "src/catalog/infeasible.sql",
            &strict(plans),
            team,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().filter_map(Row::promise).collect())
    }

    /// Returns how many such resources each tier has that is held strictly, of one team or of all; 0 where there is none.
    pub async fn infeasible_by_tier(
        &self,
        plans: &Plans,
        team: Option<&str>,
    ) -> Result<Vec<(String, i64)>, CatalogError> {
        let rows = sqlx::query!(
            r#"select strict.tier as "tier!", (
                   select count(*) from lastgood.strict_holds as known join lastgood.resources as r on r.id = known.resource_id
                   where known.is_infeasible and r.status = 'active' and coalesce(r.retention_days, 1) > 0 and r.tier = strict.tier
                       and ($2::text is null or r.team = $2)
               ) as "resources!"
               from unnest($1::text[]) as strict (tier)"#,
            &strict(plans),
            team
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.tier, row.resources))
            .collect())
    }
}

fn strict(plans: &Plans) -> Vec<String> {
    let strict = plans.paid().filter(|(plan, _)| plan.hold == Hold::Strict);
    strict.map(|(plan, _)| plan.tier.to_string()).collect()
}

impl Row {
    fn promise(self) -> Option<InfeasiblePromise> {
        let why = Infeasible {
            rpo: Rpo::from_minutes(self.rpo_minutes.into()).ok()?,
            takes: TimeDelta::seconds(self.takes_seconds.into()),
        };
        Some(InfeasiblePromise {
            resource: self.id,
            team: self.team,
            tier: self.tier,
            engine: self.engine,
            rpo_minutes: self.rpo_minutes,
            takes_seconds: self.takes_seconds,
            feasible_rpo_minutes: why.rpo_that_holds_minutes(),
            feasible_takes_seconds: why.most().map(|most| most.num_seconds()),
            infeasible_because: why.to_string(),
            backups: self.backups,
            decided_at: self.planned_at,
        })
    }
}
