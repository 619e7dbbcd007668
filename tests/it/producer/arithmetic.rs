//! The schedule's arithmetic in SQL equals that in Rust.

use anyhow::Result;
use chrono::{DateTime, Utc};
use lastgood::{
    plan::Cadence,
    schedule::{Slot, Spread, next_due, offset, retry_delay, slot_start},
};
use sqlx::Row as _;

use crate::database::TestCatalog;

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_in_sql_is_the_schedule_in_rust() -> Result<()> {
    const BATCH: usize = 4000;
    let db = TestCatalog::create().await?;
    let mut random = fastrand::Rng::with_seed(20_310_305);
    // A time zone other than UTC, with daylight-saving time, must not matter.
    let mut connection = db.pool().acquire().await?;
    sqlx::query("set timezone = 'America/New_York'")
        .execute(&mut *connection)
        .await?;
    for _ in 0..3 {
        let inputs: Vec<Input> = Cadence::HELD
            .into_iter()
            .cycle()
            .map(|cadence| Input::any(&mut random, cadence))
            .take(BATCH)
            .collect();
        let rows = sqlx::query(
            "select lastgood.slot_start(cadence, spread, team, at) as slot_start,
                 extract(epoch from lastgood.slot_offset(cadence, spread, team))::bigint as slot_offset,
                 lastgood.next_due(cadence, spread, team, at, taken) as next_due,
                 extract(epoch from lastgood.retry_delay(failures, cadence))::bigint as retry_delay
             from unnest($1::integer[], $2::integer[], $3::integer[], $4::timestamptz[], $5::boolean[], $6::integer[])
                 with ordinality as i (cadence, spread, team, at, taken, failures, n)
             order by n",
        )
        .bind(inputs.iter().map(|i| i.cadence.minutes()).collect::<Vec<_>>())
        .bind(column(&inputs, |i| i.spread.resource)?)
        .bind(column(&inputs, |i| i.spread.team)?)
        .bind(inputs.iter().map(|i| i.at).collect::<Vec<_>>())
        .bind(inputs.iter().map(|i| i.slot == Slot::Taken).collect::<Vec<_>>())
        .bind(column(&inputs, |i| i.failures)?)
        .fetch_all(&mut *connection)
        .await?;
        assert_eq!(rows.len(), BATCH);
        for (i, row) in inputs.iter().zip(rows) {
            let start: DateTime<Utc> = row.try_get("slot_start")?;
            assert_eq!(start, slot_start(i.cadence, i.spread, i.at), "{i:?}");
            let turn: i64 = row.try_get("slot_offset")?;
            assert_eq!(turn, offset(i.cadence, i.spread).num_seconds(), "{i:?}");
            let due: DateTime<Utc> = row.try_get("next_due")?;
            assert_eq!(due, next_due(i.cadence, i.spread, i.at, i.slot), "{i:?}");
            let delay: i64 = row.try_get("retry_delay")?;
            assert_eq!(
                delay,
                retry_delay(i.failures, i.cadence).num_seconds(),
                "{i:?}"
            );
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Input {
    cadence: Cadence,
    spread: Spread,
    at: DateTime<Utc>,
    slot: Slot,
    failures: u32,
}

impl Input {
    /// Returns a random input, to the microsecond, which is PostgreSQL's precision.
    fn any(random: &mut fastrand::Rng, cadence: Cadence) -> Self {
        let micros = if random.u8(..4) == 0 {
            // Exactly on a boundary.
            random.i64(0..1_100_000) * 3_600_000_000
        } else {
            random.i64(0..4_000_000_000_000_000)
        };
        let at = DateTime::from_timestamp_micros(micros).unwrap_or_default();
        Self {
            cadence,
            spread: Spread {
                resource: random.u32(..1 << 28),
                team: random.u32(..1 << 28),
            },
            at,
            slot: if random.bool() {
                Slot::Taken
            } else {
                Slot::Free
            },
            failures: random.u32(1..40),
        }
    }
}

fn column(inputs: &[Input], of: fn(&Input) -> u32) -> Result<Vec<i32>> {
    inputs
        .iter()
        .map(|input| Ok(i32::try_from(of(input))?))
        .collect()
}
