//! Everything in a directory's store is listed or reported, however it got there.

use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
};

use super::*;

#[tokio::test]
async fn what_is_behind_a_symbolic_link_is_listed() -> anyhow::Result<()> {
    let (store, disk) = (Store::new().await?, tempfile::tempdir()?);
    let at = |key: &str| store.directory.path().join("objects").join(key);
    store.put(&point(1, "acme", 1)).await?;
    let key = store.put(&point(2, "moved", 2)).await?;
    std::fs::rename(at("v1/moved"), disk.path().join("moved"))?;
    symlink(disk.path().join("moved"), at("v1/moved"))?;
    // And a file.
    std::fs::rename(at(&key), disk.path().join("a"))?;
    symlink(disk.path().join("a"), at(&key))?;

    let (team, resource) = ("moved".parse()?, "db-1".parse()?);
    for (team, resource, points) in [
        (None, None, 2),
        (Some(&team), None, 1),
        (Some(&team), Some(&resource), 1),
        (None, Some(&resource), 2),
    ] {
        let wanted = Wanted {
            team,
            resource,
            ..Wanted::default()
        };
        let found = store.survey(&wanted, 9).await?;
        assert_eq!(found.points.len(), points, "{wanted:?}");
    }
    assert!(store.storage.listing().await?.has(&key));
    store.storage.sweep(noon()).await?;
    Ok(())
}

#[tokio::test]
async fn a_symbolic_link_that_leads_nowhere_or_in_a_circle_is_an_error() -> anyhow::Result<()> {
    let store = Store::new().await?;
    let at = |key: &str| store.directory.path().join("objects").join(key);
    store.put(&point(1, "acme", 1)).await?;
    symlink("/mnt/not-there", at("v1/moved"))?;
    let (team, resource) = ("moved".parse()?, "db-1".parse()?);
    for (team, resource) in [(None, None), (Some(&team), Some(&resource))] {
        let wanted = Wanted {
            team,
            resource,
            ..Wanted::default()
        };
        let error = store.survey(&wanted, 9).await.unwrap_err().report();
        assert!(error.contains("v1/moved leads nowhere"), "{error}");
    }
    std::fs::remove_file(at("v1/moved"))?;
    // Two links, so that each round would double the number of entries.
    for link in ["circle", "again"] {
        symlink("..", at("v1/acme").join(link))?;
    }
    let error = store.survey(&Wanted::default(), 9).await.unwrap_err();
    let error = error.report();
    assert!(
        error.contains("leads to a directory that contains it"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_not_utf_8_hides_no_manifest() -> anyhow::Result<()> {
    let store = Store::new().await?;
    store.put(&point(1, "acme", 1)).await?;
    let v1 = store.directory.path().join("objects/v1");
    std::fs::rename(v1.join("acme"), v1.join(OsStr::from_bytes(b"acm\xff")))?;
    let found = store.survey(&Wanted::default(), 9).await?;
    assert_eq!((found.points.len(), found.unreadable), (0, 1));
    let told: Vec<&String> = found.faults.keys().collect();
    assert!(told[0].starts_with("v1/acm\u{fffd}/db-1/"), "{told:?}");
    Ok(())
}
