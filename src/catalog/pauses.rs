//! Pauses: which runs may not be claimed for now, who ordered that, and what it costs.

#![expect(
    clippy::allow_attributes_without_reason,
    reason = "sqlx's macros expand to such attributes"
)]

use serde_json::json;

use super::{Audit, Catalog, CatalogError, Order, audit::record_by};
use crate::nouns::{Drained, Pause, PauseCost};

/// What a pause covers; `None` covers any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// One engine.
    pub engine: Option<String>,
    /// One tier.
    pub tier: Option<String>,
    /// One team.
    pub team: Option<String>,
}

/// The outcome of an order to pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paused {
    /// The scope is paused from now on.
    New(Pause),
    /// The scope was paused already, for the reason that was given first.
    Already(Pause),
}

impl Catalog {
    /// Pauses a scope: no run that it covers is claimed until it is resumed. Running runs continue, and due runs are still enqueued.
    pub async fn pause(&self, scope: &Scope, order: &Order) -> Result<Paused, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // Claims that began earlier have ended by then, so a caller who now looks at the running runs sees all that will run.
        sqlx::query("select from lastgood.claim_turn for update")
            .execute(&mut *transaction)
            .await?;
        let new = sqlx::query_as!(
            Pause,
            "insert into lastgood.pauses (engine, tier, team, because, by) values ($1, $2, $3, $4, $5)
             on conflict do nothing
             returning engine, tier, team, because as reason, by, created_at",
            scope.engine,
            scope.tier,
            scope.team,
            order.reason().unwrap_or("no reason given"),
            order.by(),
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(pause) = new {
            record_by(&mut transaction, order.by(), &act("pause", scope, order)).await?;
            transaction.commit().await?;
            return Ok(Paused::New(pause));
        }
        transaction.rollback().await?;
        match self.pauses().await?.into_iter().find(|it| scope.is_of(it)) {
            Some(pause) => Ok(Paused::Already(pause)),
            // Somebody resumed it this instant: try again.
            None => Box::pin(self.pause(scope, order)).await,
        }
    }

    /// Ends the pause of exactly this scope and wakes the consumers. `None`: this scope is not paused.
    pub async fn resume(
        &self,
        scope: &Scope,
        order: &Order,
    ) -> Result<Option<Pause>, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let ended = sqlx::query_as!(
            Pause,
            "delete from lastgood.pauses
             where coalesce(engine, '') = coalesce($1, '') and coalesce(tier, '') = coalesce($2, '')
                 and coalesce(team, '') = coalesce($3, '')
             returning engine, tier, team, because as reason, by, created_at",
            scope.engine,
            scope.tier,
            scope.team,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if ended.is_some() {
            record_by(&mut transaction, order.by(), &act("resume", scope, order)).await?;
            sqlx::query!(
                "select pg_notify('lastgood_runs', queue)
                 from (select distinct queue from lastgood.runs where state = 'queued') as queues"
            )
            .fetch_all(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(ended)
    }

    /// Returns the pauses in force, oldest first.
    pub async fn pauses(&self) -> Result<Vec<Pause>, CatalogError> {
        let rows = sqlx::query_as!(
            Pause,
            "select engine, tier, team, because as reason, by, created_at from lastgood.pauses order by created_at, engine, tier, team"
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns whether exactly this scope is paused.
    pub async fn is_paused(&self, scope: &Scope) -> Result<bool, CatalogError> {
        let pauses = self.pauses().await?;
        Ok(pauses.iter().any(|pause| scope.is_of(pause)))
    }

    /// Returns what a drain has reached now.
    pub async fn drained(&self) -> Result<Drained, CatalogError> {
        let running = self.running().await?;
        // Checked after listing the runs: if the pause still holds now, nothing was claimed in the meantime.
        let is_paused = self.is_paused(&Scope::default()).await?;
        Ok(Drained {
            is_drained: is_paused && running.is_empty(),
            is_paused,
            running,
        })
    }

    /// Counts the resources that a scope covers, except removed ones.
    pub async fn resources_in(&self, scope: &Scope) -> Result<i64, CatalogError> {
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!" from lastgood.resources
               where status <> 'removed' and ($1::text is null or engine = $1) and ($2::text is null or tier = $2)
                   and ($3::text is null or team = $3)"#,
            scope.engine,
            scope.tier,
            scope.team
        )
        .fetch_one(self.pool())
        .await?;
        Ok(count)
    }

    /// Returns a pause that keeps a resource's runs from being claimed, if there is one.
    pub async fn pause_over(&self, resource_id: &str) -> Result<Option<Pause>, CatalogError> {
        let pause = sqlx::query_as!(
            Pause,
            "select pause.engine, pause.tier, pause.team, pause.because as reason, pause.by, pause.created_at
             from lastgood.pauses as pause join lastgood.resources as r
                 on coalesce(pause.engine, r.engine) = r.engine and coalesce(pause.tier, r.tier) = r.tier
                 and coalesce(pause.team, r.team) = r.team
             where r.id = $1 order by pause.created_at limit 1",
            resource_id
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(pause)
    }

    /// Returns what each pause costs. `tiers` holds the paid tiers and `allowed_seconds` the exposure that each allows: RPO plus tolerance.
    pub async fn pause_costs(
        &self,
        tiers: &[String],
        allowed_seconds: &[f64],
    ) -> Result<Vec<PauseCost>, CatalogError> {
        let mut costs = Vec::new();
        for pause in self.pauses().await? {
            let row = sqlx::query_file!(
                "src/catalog/pause_cost.sql",
                tiers,
                allowed_seconds,
                pause.engine,
                pause.tier,
                pause.team,
                pause.created_at
            )
            .fetch_one(self.pool())
            .await?;
            costs.push(PauseCost {
                pause,
                resources: row.resources,
                broken: row.broken,
                breaking: row.breaking,
                next_break_at: row.next_break_at,
            });
        }
        Ok(costs)
    }
}

impl Scope {
    fn is_of(&self, pause: &Pause) -> bool {
        (&self.engine, &self.tier, &self.team) == (&pause.engine, &pause.tier, &pause.team)
    }
}

fn act<'a>(action: &'a str, scope: &Scope, order: &Order) -> Audit<'a> {
    Audit::new(
        action,
        json!({
            "engine": scope.engine, "tier": scope.tier, "team": scope.team, "reason": order.reason(),
        }),
    )
}
