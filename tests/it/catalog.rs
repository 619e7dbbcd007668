//! The schema's constraints hold, a request sent twice is one run, and no secret is stored in clear text.

mod constraints;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::{
    catalog::{
        Catalog, CatalogError, Enqueued, NewResource, NewRun, Order, PointFilter, StoredConnection,
    },
    secret::MasterKey,
};
use lastgood_jobs::{
    job::{Job, Restore, RestoreTarget},
    resource::ResourceOptions,
};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::{
    database::TestCatalog,
    eventually::{SOON, within},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_repeated_with_its_key_is_the_first_run() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    db.add("blog", "acme", "pro").await?;
    let first = ask(&db.catalog, "shop", &Job::Backup {}, Some("key")).await?;
    assert!(matches!(first, Enqueued::New(_)));
    let duplicate = Enqueued::Duplicate(first.id());
    assert_eq!(
        ask(&db.catalog, "shop", &Job::Backup {}, Some("key")).await?,
        duplicate
    );
    // Also after the run has ended.
    db.execute("update lastgood.runs set state = 'cancelled', finished_at = now()")
        .await?;
    assert_eq!(
        ask(&db.catalog, "shop", &Job::Backup {}, Some("key")).await?,
        duplicate
    );

    let other = ask(&db.catalog, "shop", &restore(), Some("key")).await;
    assert!(matches!(other, Err(CatalogError::KeyReused)), "{other:?}");
    let elsewhere = ask(&db.catalog, "blog", &Job::Backup {}, Some("key")).await?;
    assert!(
        matches!(elsewhere, Enqueued::New(_)),
        "a key belongs to its resource"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_many_make_at_once_with_one_key_is_one_run() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    for round in 0..20 {
        let key = format!("key-{round}");
        let asked = (0..6).map(|_| ask(&db.catalog, "shop", &Job::Backup {}, Some(&key)));
        let answers = futures::future::try_join_all(asked).await?;
        let new = answers
            .iter()
            .filter(|answer| matches!(answer, Enqueued::New(_)));
        assert_eq!(new.count(), 1, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.id() == answers[0].id()));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_key_are_as_many_runs() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    for _ in 0..3 {
        let answer = ask(&db.catalog, "shop", &Job::Backup {}, None).await?;
        assert!(matches!(answer, Enqueued::New(_)));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_restore_of_a_resource_is_refused_until_the_first_has_ended() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    db.add("blog", "acme", "pro").await?;
    ask(&db.catalog, "shop", &restore(), Some("first")).await?;
    for key in [None, Some("second")] {
        let second = ask(&db.catalog, "shop", &restore(), key).await;
        assert!(
            matches!(second, Err(CatalogError::RestoreUnderWay(_))),
            "{second:?}"
        );
    }
    ask(&db.catalog, "blog", &restore(), None).await?;
    db.execute("update lastgood.runs set state = 'cancelled', finished_at = now()")
        .await?;
    ask(&db.catalog, "shop", &restore(), Some("second")).await?;
    Ok(())
}

fn restore() -> Job {
    Job::Restore(Restore {
        point: Uuid::nil(),
        target: RestoreTarget::Swap {},
        no_owner: false,
        no_acl: false,
        as_superuser: false,
        no_tablespaces: false,
        break_replication: false,
        of_owner: false,
    })
}

async fn ask(
    catalog: &Catalog,
    resource_id: &str,
    job: &Job,
    idempotency_key: Option<&str>,
) -> Result<Enqueued, CatalogError> {
    let new = NewRun {
        resource_id,
        queue: "postgres",
        job,
        idempotency_key,
        asked: None,
    };
    catalog.enqueue(&new, &Order::new("test", None)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_never_used_twice_not_even_after_its_resource_was_removed() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    for status in ["active", "paused", "removed"] {
        sqlx::query("update lastgood.resources set status = $1")
            .bind(status)
            .execute(db.pool())
            .await?;
        let new = NewResource {
            id: "shop".parse()?,
            team: "umbrella".parse()?,
            tier: "free".parse()?,
            engine: "postgres".to_owned(),
            retention_days: None,
            connection: StoredConnection::Reference("env:SOME_URL".to_owned()),
            options: ResourceOptions::default(),
        };
        let order = Order::new("test", None);
        let again = db.catalog.register_resource(&new, &order);
        assert!(matches!(again.await, Err(CatalogError::Exists(id)) if id == "shop"));
        assert_eq!(db.catalog.resource("shop").await?.team, "acme");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn to_migrate_again_or_by_several_at_once_is_harmless() -> Result<()> {
    let db = TestCatalog::without_schema().await?;
    let others = futures::future::try_join_all((0..4).map(|_| {
        let url = db.url();
        async move { Catalog::connect(&url, 1).await }
    }))
    .await?;
    futures::future::try_join_all(others.iter().map(Catalog::migrate)).await?;
    db.add("shop", "acme", "pro").await?;
    db.catalog.migrate().await?;
    db.catalog.check_schema().await?;
    assert_eq!(db.catalog.resource("shop").await?.id, "shop");
    let applied = db.count("select count(*) from lastgood.migrations").await?;
    let distinct = db
        .count("select count(distinct version) from lastgood.migrations where success")
        .await?;
    assert_eq!(applied, distinct);
    let outside = "select count(*) from pg_class where relnamespace = 'public'::regnamespace";
    assert_eq!(
        db.count(outside).await?,
        0,
        "everything is in a schema of ours"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_whose_schema_is_missing_or_old_says_to_migrate() -> Result<()> {
    let db = TestCatalog::without_schema().await?;
    let hint = async || -> Result<String> {
        let refused = Catalog::open(&db.url(), 1).await.err();
        Ok(refused.context("opened")?.to_string())
    };
    assert!(hint().await?.contains("`lastgood migrate`"));
    db.catalog.migrate().await?;
    Catalog::open(&db.url(), 1).await?;
    // A migration of a newer build is accepted, a missing one is not.
    db.execute(
        "insert into lastgood.migrations (version, description, success, checksum, execution_time)
         values (99999999, 'the future', true, '', 0)",
    )
    .await?;
    Catalog::open(&db.url(), 1).await?;
    db.execute("delete from lastgood.migrations where version = 1")
        .await?;
    let text = hint().await?;
    assert!(
        text.contains("`lastgood migrate`") && text.contains("migration 1"),
        "{text}"
    );
    Ok(())
}

/// A catalog of before the migrations were written anew: nothing is tried on it, and whoever has one is told the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_of_an_earlier_build_is_refused_and_left_as_it_is() -> Result<()> {
    let db = TestCatalog::without_schema().await?;
    db.execute("create schema lastgood").await?;
    db.execute(
        "create table lastgood.migrations (
             version bigint primary key, description text not null, installed_on timestamptz not null default now(),
             success boolean not null, checksum bytea not null, execution_time bigint not null
         )",
    )
    .await?;
    db.execute(
        "insert into lastgood.migrations (version, description, success, checksum, execution_time)
         select i, 'of before', true, '', 0 from generate_series(1, 41) as i",
    )
    .await?;
    let told = |error: Option<CatalogError>| -> Result<bool> {
        let text = error.context("accepted")?.to_string();
        Ok(text.contains("CHANGELOG.md") && text.contains("rebuild"))
    };
    ensure!(told(db.catalog.migrate().await.err())?);
    ensure!(told(Catalog::open(&db.url(), 1).await.err())?);
    let left = "select count(*) from pg_class where relnamespace = 'lastgood'::regnamespace and relkind = 'r'";
    ensure!(db.count(left).await? == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_point_at_an_instant_is_not_younger_than_it() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    db.add("blog", "acme", "pro").await?;
    let noon: DateTime<Utc> = "2031-03-05T12:00:00Z".parse()?;
    let hour = TimeDelta::hours(1);
    assert!(db.catalog.newest_point("shop", None).await?.is_none());
    // Recorded out of order: a rebuilt catalog does not know the order of creation.
    let newest = point(&db, "shop", noon).await?;
    let oldest = point(&db, "shop", noon - hour * 2).await?;
    let middle = point(&db, "shop", noon - hour).await?;
    point(&db, "blog", noon + hour).await?;
    let millisecond = TimeDelta::milliseconds(1);
    for (at, expected) in [
        (None, Some(newest)),
        (Some(noon + hour * 5), Some(newest)),
        (Some(noon), Some(newest)),
        (Some(noon - millisecond), Some(middle)),
        (Some(noon - hour), Some(middle)),
        (Some(noon - hour - millisecond), Some(oldest)),
        (Some(noon - hour * 2), Some(oldest)),
        (Some(noon - hour * 2 - millisecond), None),
    ] {
        let found = db.catalog.newest_point("shop", at).await?;
        assert_eq!(found.map(|point| point.id), expected, "{at:?}");
    }
    let filter = PointFilter {
        resource_id: Some("shop".to_owned()),
        limit: 10,
        ..PointFilter::default()
    };
    let listed = db.catalog.points(&filter).await?;
    let listed: Vec<_> = listed.iter().map(|point| point.id).collect();
    assert_eq!(listed, [newest, middle, oldest]);
    Ok(())
}

/// Records a restore point and returns its id.
async fn point(db: &TestCatalog, resource: &str, consistent_at: DateTime<Utc>) -> Result<Uuid> {
    let id = Uuid::new_v4();
    sqlx::query(
        "insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
         values ($1, $2, $3, $4, '{}', 1, 1)",
    )
    .bind(id)
    .bind(resource)
    .bind(consistent_at)
    .bind(id.to_string())
    .execute(db.pool())
    .await?;
    Ok(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_url_is_nowhere_in_the_whole_database_in_clear() -> Result<()> {
    const MARKER: &str = "s3cret-marker";
    let db = TestCatalog::create().await?;
    let key = MasterKey::parse(&SecretString::from(
        "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    ))?;
    let url = SecretString::from(format!("postgresql://u:{MARKER}@h/db"));
    let new = NewResource {
        id: "shop".parse()?,
        team: "acme".parse()?,
        tier: "pro".parse()?,
        engine: "postgres".to_owned(),
        retention_days: None,
        connection: StoredConnection::Sealed {
            url: key.seal("shop", &url)?,
            under: 1,
        },
        options: ResourceOptions::default(),
    };
    db.catalog
        .register_resource(&new, &Order::new("test", None))
        .await?;
    ask(&db.catalog, "shop", &Job::Backup {}, Some("key")).await?;
    assert!(
        occurrences(&db, "acme").await? > 0,
        "the search finds what is there"
    );
    assert_eq!(occurrences(&db, MARKER).await?, 0);
    // The URL is in there all the same, for whoever has the key.
    let StoredConnection::Sealed { url: sealed, .. } = db.catalog.connection("shop").await? else {
        anyhow::bail!("not sealed");
    };
    assert_eq!(
        key.open("shop", &sealed)?.expose_secret(),
        url.expose_secret()
    );
    Ok(())
}

/// Returns how many values in the whole database contain `needle`, as text or as bytes.
async fn occurrences(db: &TestCatalog, needle: &str) -> Result<i64> {
    let columns = sqlx::query(
        "select format('%I.%I', n.nspname, c.relname) as tab, format('%I', a.attname) as col, t.typname = 'bytea' as is_bytes
         from pg_attribute as a join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace
         join pg_type as t on t.oid = a.atttypid
         where c.relkind = 'r' and a.attnum > 0 and not a.attisdropped and n.nspname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(db.pool())
    .await?;
    assert!(columns.len() > 50);
    let mut found = 0;
    for column in columns {
        let (table, name): (String, String) = (column.try_get("tab")?, column.try_get("col")?);
        let text = if column.try_get("is_bytes")? {
            // Shows every byte as the character with its code, so that text inside can be found.
            format!("encode({name}, 'escape')")
        } else {
            format!("{name}::text")
        };
        let statement = format!("select count(*) from {table} where strpos({text}, $1) > 0");
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(needle)
            .fetch_one(db.pool())
            .await?;
        found += count;
    }
    Ok(found)
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_any_more_ends() -> Result<()> {
    let db = TestCatalog::create().await?;
    let bounded = Catalog::open_bounded(&db.url(), 1, Duration::from_millis(200)).await?;
    let asked = sqlx::query("select pg_sleep(3600)").execute(bounded.pool());
    let error = within(SOON, "the statement ends", asked)
        .await?
        .map_err(CatalogError::from);
    ensure!(
        error.as_ref().is_err_and(CatalogError::may_pass),
        "{error:?}"
    );
    // The connection can still be used for the next query.
    bounded.now().await?;
    Ok(())
}
