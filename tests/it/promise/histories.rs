//! What is read of a long history is enough: each day comes out as it does from all that ever was.

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::promise::{Change, Counted, Record, Service, Span, figures, timeline};
use uuid::Uuid;

use super::{DAY, Fleet};

const DAYS: i64 = 4;

/// Numbers that look random, and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 33) % u64::try_from(most).unwrap_or(1)).unwrap_or(0)
    }

    /// Returns a minute within `most` after another, one time in `times`.
    fn sometimes(&mut self, times: i64, after: i64, most: i64) -> Option<i64> {
        let minute = after + self.below(most);
        (self.below(times) == 0).then_some(minute)
    }
}

/// A restore point and its fate, in minutes after midnight.
struct Fate {
    consistent: i64,
    exists: i64,
    verified: Option<i64>,
    quarantined: Option<i64>,
    expired: Option<i64>,
}

impl Fate {
    fn thrown(dice: &mut Dice) -> Self {
        let consistent = dice.below(DAYS * DAY - 100);
        let exists = consistent + 1 + dice.below(80);
        let past = |minute: &i64| *minute < DAYS * DAY;
        Self {
            consistent,
            exists,
            verified: dice.sometimes(2, exists, 200).filter(past),
            quarantined: dice.sometimes(5, exists + 200, 900).filter(past),
            expired: dice.sometimes(3, exists + 30, 2500).filter(past),
        }
    }

    /// Returns the point as the rules say it, in words of this test.
    fn counted(&self, at: impl Fn(i64) -> DateTime<Utc>) -> Counted {
        let damaged = self
            .quarantined
            .map(|_| self.verified.unwrap_or(self.exists));
        Counted {
            consistent_at: at(self.consistent),
            from: at(self.exists),
            until: [damaged, self.expired].into_iter().flatten().min().map(at),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_day_of_any_history_is_what_all_its_facts_say() -> Result<()> {
    let fleet = Fleet::begin().await?;
    let shops: Vec<_> = (0..12).map(|number| format!("shop{number}")).collect();
    for shop in &shops {
        fleet.db.add(shop, "acme", "pro").await?;
    }
    fleet.clock(DAYS * DAY).await?;
    let mut dice = Dice(7);
    let mut histories: BTreeMap<&str, Vec<Counted>> = BTreeMap::new();
    for (number, shop) in (1..).zip(&shops) {
        for _ in 0..number * 12 {
            let fate = Fate::thrown(&mut dice);
            insert(&fleet, shop, &fate).await?;
            let counted = fate.counted(|minute| fleet.at(minute));
            histories.entry(shop).or_default().push(counted);
        }
    }
    // Half of those that expired are gone before anybody counts.
    let gone = fleet
        .db
        .execute(
            "delete from lastgood.restore_points where expired_at is not null and id::text < '8'",
        )
        .await?;
    assert!(gone > 50, "{gone}");
    fleet.clock(DAYS * DAY + 10).await?;
    fleet.count().await?;
    for (shop, points) in histories {
        let record = Record {
            registered_at: fleet.at(0),
            changes: vec![Change {
                at: fleet.at(0),
                team: "acme".to_owned(),
                tier: "pro".to_owned(),
                engine: "postgres".to_owned(),
                service: Service::Active,
            }],
            points,
        };
        for day in 0..DAYS {
            let from = fleet.at(day * DAY);
            let until = from + TimeDelta::days(1);
            let span = Span { from, until };
            let facts = fleet.db.catalog.promise_fleet(span).await?;
            let expected: Vec<_> = figures(&timeline(&facts, &record, span))
                .values()
                .map(|it| {
                    [
                        it.promised,
                        it.late,
                        it.broken,
                        it.paused,
                        it.down,
                        it.worst,
                    ]
                })
                .map(|parts| parts.map(|part| part.num_minutes()))
                .collect();
            assert_eq!(
                vec![fleet.minutes(shop, day).await?],
                expected,
                "{shop}, day {day}"
            );
        }
    }
    Ok(())
}

async fn insert(fleet: &Fleet, shop: &str, fate: &Fate) -> Result<()> {
    let at = |minute: Option<i64>| minute.map(|minute| fleet.at(minute));
    sqlx::query(
        "insert into lastgood.restore_points
             (id, resource_id, consistent_at, created_at, manifest_key, manifest, dump_bytes, stored_bytes,
              verified_at, quarantined_at, quarantined_because, expired_at, expired_because)
         values ($1, $2, $3, $4, $1::text, '{}', 1, 1, $5, $6, case when $6 is not null then 'damaged' end,
              $7, case when $7 is not null then 'age' end)",
    )
    .bind(Uuid::new_v4())
    .bind(shop)
    .bind(fleet.at(fate.consistent))
    .bind(fleet.at(fate.exists))
    .bind(at(fate.verified))
    .bind(at(fate.quarantined))
    .bind(at(fate.expired))
    .execute(fleet.db.pool())
    .await?;
    Ok(())
}
