//! Which master key seals, whatever interferes: a large fleet, a URL that is given anew, another process.

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    catalog::{
        Audit, Catalog, CatalogError, FreshUrl, NewResource, Order, ResourceChange,
        StoredConnection,
    },
    master::{self, MasterKeyError, Sealer},
    secret::{MasterKey, MasterKeys},
};
use lastgood_jobs::resource::ResourceOptions;
use secrecy::{ExposeSecret as _, SecretString};

use crate::database::TestCatalog;

const FIRST: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const NEXT: &str = "dGhlLW5leHQtbWFzdGVyLWtleS1vZi10aGlzLXRlc3Q=";

fn key(text: &str) -> Result<MasterKey> {
    Ok(MasterKey::parse(&SecretString::from(text))?)
}

fn both() -> Result<MasterKeys> {
    Ok(MasterKeys::new(key(NEXT)?, Some(key(FIRST)?)))
}

fn url_of(id: &str) -> SecretString {
    SecretString::from(format!("postgresql://u:p@h/{id}"))
}

async fn sealed(catalog: &Catalog, keys: &MasterKeys, id: &str) -> Result<StoredConnection> {
    let sealer = master::sealer(catalog, keys).await?;
    Ok(StoredConnection::Sealed {
        url: sealer.key.seal(id, &url_of(id))?,
        under: sealer.number,
    })
}

async fn add(catalog: &Catalog, keys: &MasterKeys, id: &str) -> Result<()> {
    let new = NewResource {
        id: id.parse()?,
        team: "acme".parse()?,
        tier: "free".parse()?,
        engine: "postgres".to_owned(),
        retention_days: None,
        connection: sealed(catalog, keys, id).await?,
        options: ResourceOptions::default(),
    };
    Ok(catalog
        .register_resource(&new, &Order::new("test", None))
        .await?)
}

fn entry() -> Audit<'static> {
    Audit::new("rotate_master_key", serde_json::json!({}))
}

#[tokio::test]
async fn every_url_of_a_large_fleet_goes_over_to_the_next_key_and_reads_as_it_did() -> Result<()> {
    let db = TestCatalog::create().await?;
    let first = MasterKeys::from(key(FIRST)?);
    let ids: Vec<_> = (0..450).map(|n| format!("r{n}")).collect();
    for id in &ids {
        add(&db.catalog, &first, id).await?;
    }
    let keys = both()?;
    let held = master::hold(&db.catalog, &keys).await?;
    assert_eq!(
        (held.sealing, held.current, held.previous),
        (1, Some(2), Some(1))
    );
    // Until the rotation, the first key seals, so a process that has only this key opens what is registered.
    assert_eq!(master::sealer(&db.catalog, &keys).await?.number, 1);
    ensure!(db.catalog.let_seal(1, 2, &entry()).await?);
    let to = Sealer {
        number: 2,
        key: keys.current(),
    };
    let done = master::reseal(&db.catalog, &keys, &to).await?;
    ensure!(done.is_complete() && done.urls == 450, "{done:?}");
    for id in &ids {
        let StoredConnection::Sealed { url, under } = db.catalog.connection(id).await? else {
            anyhow::bail!("{id} is not sealed");
        };
        let opened = keys.current().open(id, &url)?;
        ensure!(under == 2 && opened.expose_secret() == url_of(id).expose_secret());
    }
    Ok(())
}

#[tokio::test]
async fn a_url_that_is_given_anew_meanwhile_is_not_replaced_by_the_old_one() -> Result<()> {
    let db = TestCatalog::create().await?;
    let first = MasterKeys::from(key(FIRST)?);
    add(&db.catalog, &first, "shop").await?;
    let read = db.catalog.sealed_urls(None, 10).await?;
    let read = read.into_iter().next().context("no URL")?;
    let change = ResourceChange {
        connection: Some(sealed(&db.catalog, &first, "shop").await?),
        ..ResourceChange::default()
    };
    db.catalog
        .alter_resource("shop", &change, None, &Order::new("test", None))
        .await?;
    let late = FreshUrl {
        id: read.id,
        sealed: key(FIRST)?.seal("shop", &SecretString::from("postgresql://u:old@h/shop"))?,
        was: read.sealed,
    };
    let (written, refused) = db.catalog.reseal_urls(1, vec![late]).await?;
    ensure!(written == 0 && refused.is_empty());
    let StoredConnection::Sealed { url, .. } = db.catalog.connection("shop").await? else {
        anyhow::bail!("not sealed");
    };
    let opened = first.open("shop", &url)?;
    assert_eq!(opened.expose_secret(), url_of("shop").expose_secret());
    Ok(())
}

#[tokio::test]
async fn what_was_sealed_under_a_key_that_was_replaced_meanwhile_is_not_stored() -> Result<()> {
    let db = TestCatalog::create().await?;
    let (first, keys) = (MasterKeys::from(key(FIRST)?), both()?);
    add(&db.catalog, &first, "shop").await?;
    let slow = sealed(&db.catalog, &first, "shop").await?;
    master::hold(&db.catalog, &keys).await?;
    ensure!(db.catalog.let_seal(1, 2, &entry()).await?);
    let change = ResourceChange {
        connection: Some(slow),
        ..ResourceChange::default()
    };
    let refused = db
        .catalog
        .alter_resource("shop", &change, None, &Order::new("test", None))
        .await;
    ensure!(
        matches!(refused, Err(CatalogError::MasterKeyReplaced)),
        "{refused:?}"
    );
    // A change that does not affect anything sealed is stored as usual.
    let paused = ResourceChange {
        tier: Some("hobby".parse()?),
        ..ResourceChange::default()
    };
    db.catalog
        .alter_resource("shop", &paused, None, &Order::new("test", None))
        .await?;
    let refused = master::sealer(&db.catalog, &first).await;
    ensure!(matches!(
        refused,
        Err(MasterKeyError::Replaced {
            number: 1,
            sealing: 2
        })
    ));
    Ok(())
}

#[tokio::test]
async fn many_processes_that_start_at_once_give_the_next_key_one_number() -> Result<()> {
    let db = TestCatalog::create().await?;
    add(&db.catalog, &MasterKeys::from(key(FIRST)?), "shop").await?;
    let keys = both()?;
    let started = (0..8).map(|_| master::hold(&db.catalog, &keys));
    for held in futures::future::try_join_all(started).await? {
        assert_eq!(held.current, Some(2));
    }
    let known = "select count(*) from lastgood.master_keys";
    assert_eq!(db.count(known).await?, 2);
    Ok(())
}
