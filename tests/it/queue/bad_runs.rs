//! A payload that cannot be decoded fails its own run at once, and nothing else.

use anyhow::{Context as _, Result};
use lastgood_jobs::attempt::RunId;
use rstest::rstest;

use super::workers::{Settings, Witness, Workers, becomes, enqueue, report, with_a_shop};

#[rstest]
#[case::a_field_too_many("backup", r#"{"kind": "backup", "surprise": 1}"#)]
#[case::fields_that_are_missing("restore", r#"{"kind": "restore"}"#)]
#[case::fields_of_the_wrong_type("drop_replaced", r#"{"kind": "drop_replaced", "database": 5}"#)]
#[case::the_kind_of_another_job("backup", r#"{"kind": "restore"}"#)]
#[case::no_kind("backup", "{}")]
#[case::a_kind_from_the_future("backup", r#"{"kind": "teleport"}"#)]
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_does_not_decode_fails_alone(
    #[case] kind: &str,
    #[case] args: &str,
) -> Result<()> {
    let db = with_a_shop().await?;
    // On another resource, because two restores of one resource would be refused whatever their payload.
    db.add("blog", "acme", "pro").await?;
    // All in one batch, with the bad ones first and among the good ones.
    let ids: Vec<RunId> = sqlx::query_scalar(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, run_at)
           select 'postgres', case when n % 2 = 0 and n < 3 then $1 else 'backup' end, 'adhoc',
               case when n = 2 then 'blog' else 'shop' end,
               case when n % 2 = 0 and n < 3 then $2::text::jsonb else '{"kind": "backup"}' end,
               now() - make_interval(secs => 10 - n)
           from generate_series(0, 5) as n returning id"#,
    )
    .bind(kind)
    .bind(args)
    .fetch_all(db.pool())
    .await
    .context("enqueue")?;
    let witness = Witness::default();
    let w = witness.clone();
    let settings = Settings {
        slots: 6,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let begun = w.begin(&run);
        async move {
            begun.complete();
            Ok(report())
        }
    });
    for (n, id) in ids.iter().enumerate() {
        let is_bad = n == 0 || n == 2;
        let run = becomes(&db, *id, if is_bad { "failed" } else { "succeeded" }).await?;
        assert_eq!(run.attempt, 1);
        if is_bad {
            assert_eq!(run.error_kind.as_deref(), Some("config"));
            assert!(
                run.error
                    .is_some_and(|error| error.contains("enqueue it again"))
            );
        }
    }
    // The slots are free again.
    for _ in 0..7 {
        let id = enqueue(&db, "shop").await?;
        becomes(&db, id, "succeeded").await?;
    }
    workers.stop().await?;
    assert_eq!(witness.completed(), 4 + 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_no_object_is_refused_by_the_catalog() -> Result<()> {
    let db = with_a_shop().await?;
    for args in ["[]", r#"["backup"]"#, "null", "5", r#""backup""#] {
        let refused = sqlx::query(
            "insert into lastgood.runs (queue, kind, trigger, resource_id, args)
             values ('postgres', 'backup', 'adhoc', 'shop', $1::text::jsonb)",
        )
        .bind(args)
        .execute(db.pool())
        .await
        .err()
        .with_context(|| format!("{args} was accepted"))?;
        let constraint = refused
            .as_database_error()
            .and_then(|error| error.constraint());
        assert_eq!(constraint, Some("runs_args_are_an_object"), "{args}");
    }
    Ok(())
}
