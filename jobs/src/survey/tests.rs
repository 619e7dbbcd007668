//! A store's contents are reported from its manifests, whoever wrote them.

mod names;

use std::path::Path;

use chrono::TimeZone as _;

use super::*;
use crate::{attempt::RunId, manifest::tests::example};

struct Store {
    storage: Storage,
    directory: tempfile::TempDir,
}

impl Store {
    async fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let url = directory.path().to_str().unwrap_or_default().parse()?;
        let storage = Storage::open(&url).await?;
        Ok(Self { storage, directory })
    }

    /// Writes a manifest in its place, and returns its key.
    async fn put(&self, manifest: &Manifest) -> anyhow::Result<String> {
        let (team, resource, run) = (&manifest.team, &manifest.resource_id, manifest.run_id);
        let key = format!("v1/{team}/{resource}/2026/03/04/050607Z-{run}.manifest.json");
        self.storage.create_manifest(&key, manifest).await?;
        Ok(key)
    }

    /// Puts a file at a key, as anybody with write access to the store could.
    fn lay(&self, key: &str, text: &str) -> anyhow::Result<()> {
        let path = self.directory.path().join("objects").join(key);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        Ok(std::fs::write(path, text)?)
    }

    async fn survey(&self, wanted: &Wanted<'_>, most: usize) -> Result<Survey, JobError> {
        survey(&self.storage, wanted, most, noon()).await
    }
}

fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 4, 12, 0, 0).unwrap()
}

/// Returns a point of `team`'s resource `db-1`, consistent this many minutes before noon.
fn point(number: u128, team: &str, minutes: i64) -> Manifest {
    let mut manifest = Manifest {
        run_id: RunId(Uuid::from_u128(number)),
        team: team.parse().unwrap(),
        consistent_at: noon() - TimeDelta::minutes(minutes),
        ..example()
    };
    manifest.archive.key = format!("v1/{team}/db-1/2026/03/04/{number}.pgdump.zst")
        .parse()
        .unwrap();
    manifest
}

fn ids(survey: &Survey) -> Vec<u128> {
    survey.points.iter().map(|it| it.id.as_u128()).collect()
}

#[tokio::test]
async fn the_newest_come_first_and_no_more_than_was_asked_for_are_held() -> anyhow::Result<()> {
    let store = Store::new().await?;
    for number in 1..=30 {
        // In mixed order: 7 and 31 have no common divisor.
        let minutes = i64::try_from(number * 7 % 31)?;
        store.put(&point(number, "acme", minutes)).await?;
    }
    let found = store.survey(&Wanted::default(), 4).await?;
    let newest: Vec<i64> = found
        .points
        .iter()
        .map(|it| (noon() - it.consistent_at).num_minutes())
        .collect();
    assert_eq!(newest, [1, 2, 3, 4]);
    assert_eq!((found.manifests, found.older), (30, 26));
    let at = Some(noon() - TimeDelta::minutes(20));
    let earlier = Wanted {
        at,
        ..Wanted::default()
    };
    let found = store.survey(&earlier, 1).await?;
    assert_eq!(found.points.first().map(|it| it.consistent_at), at);
    assert_eq!((found.older, found.later), (10, 19));
    Ok(())
}

#[tokio::test]
async fn a_resource_is_found_in_every_team_and_a_team_or_an_id_narrows_it() -> anyhow::Result<()> {
    let store = Store::new().await?;
    store.put(&point(1, "acme", 1)).await?;
    store.put(&point(2, "beta", 2)).await?;
    let mut other = point(3, "acme", 3);
    other.resource_id = "db-10".parse()?;
    other.archive.key = "v1/acme/db-10/x.pgdump.zst".parse()?;
    store.put(&other).await?;
    // A file in the place of a team's directory, and a name that no team can have.
    store.lay("v1/gamma", "")?;
    store.lay("v1/..x/db-1/x.manifest.json", "{}")?;
    let (resource, beta) = ("db-1".parse()?, "beta".parse()?);
    let of_resource = Wanted {
        resource: Some(&resource),
        ..Wanted::default()
    };
    let found = store.survey(&of_resource, 9).await?;
    assert_eq!((ids(&found), found.unreadable), (vec![1, 2], 0));
    assert_eq!(found.owners.len(), 2);
    let of_team = Wanted {
        team: Some(&beta),
        ..of_resource
    };
    assert_eq!(ids(&store.survey(&of_team, 9).await?), [2]);
    let of_id = Wanted {
        point: Some(Uuid::from_u128(1)),
        ..of_resource
    };
    let found = store.survey(&of_id, 9).await?;
    assert_eq!((ids(&found), found.manifests), (vec![1], 1));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_named_and_hides_nothing_else() -> anyhow::Result<()> {
    let store = Store::new().await?;
    let key = store.put(&point(1, "acme", 1)).await?;
    let path = store.directory.path().join("objects").join(&key);
    let text = std::fs::read_to_string(path)?;
    let (half, newer) = (
        &text[..text.len() / 2],
        text.replace("\"version\": 1", "\"version\": 99"),
    );
    let outside = text.replace("v1/acme/db-1/2026/03/04/1.", "v1/../../1.");
    for (name, text) in [
        ("v1/acme/db-1/cut.manifest.json", half),
        ("v1/acme/db-1/newer.manifest.json", &newer),
        ("v1/acme/db-1/outside.manifest.json", &outside),
        ("v1/acme/other/moved.manifest.json", &text),
        ("v1/acme/db-1/what is this?.manifest.json", &text),
    ] {
        store.lay(name, text)?;
    }
    let found = store.survey(&Wanted::default(), 9).await?;
    assert_eq!((ids(&found), found.unreadable), (vec![1], 5));
    for (name, why) in [
        ("cut", "EOF while parsing"),
        ("newer", "version 99"),
        ("outside", "cannot be an object's key"),
        ("moved", "not at this key"),
        ("what is this?", "cannot be an object's key"),
    ] {
        let told = found.faults.iter().find(|(key, _)| key.contains(name));
        assert!(
            told.is_some_and(|(_, told)| told.contains(why)),
            "{found:?}"
        );
    }
    assert_eq!(found.stopped, None);
    Ok(())
}

/// A read from a pipe blocks until somebody writes into it.
#[tokio::test]
async fn a_pipe_that_is_called_a_manifest_holds_nobody_up() -> anyhow::Result<()> {
    let store = Store::new().await?;
    store.lay("v1/acme/db-1/empty.manifest.json", "")?;
    let day = store.directory.path().join("objects/v1/acme/db-1");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        day.join("pipe.manifest.json"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )?;
    let all = Wanted::default();
    let found = store.survey(&all, 9);
    let found = tokio::time::timeout(std::time::Duration::from_secs(10), found).await??;
    assert_eq!(found.unreadable, 2);
    assert!(
        found
            .faults
            .values()
            .all(|why| why.contains("it has 0 bytes")),
        "{found:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_point_from_the_future_is_suspect_whatever_its_manifest_says() -> anyhow::Result<()> {
    let store = Store::new().await?;
    store.put(&point(1, "acme", 10)).await?;
    store.put(&point(2, "acme", -4)).await?;
    store.put(&point(3, "acme", -60)).await?;
    let found = store.survey(&Wanted::default(), 9).await?;
    assert_eq!(ids(&found), [3, 2, 1]);
    let suspect: Vec<bool> = found
        .points
        .iter()
        .map(|it| !it.suspicions.is_empty())
        .collect();
    assert_eq!(suspect, [true, false, false]);
    let newest = found.owners.values().next().and_then(|it| it.newest);
    assert_eq!(newest.map(|(_, id)| id.as_u128()), Some(2));
    Ok(())
}

#[test]
fn the_reasons_of_one_manifest_are_bounded() {
    let mut manifest = point(1, "acme", 1);
    let reason = Suspicion::new(Suspect::Shrunk, "x".repeat(1 << 20));
    manifest.suspicions = vec![reason; 1000];
    let told = suspicions(&manifest, noon());
    assert_eq!(told.len(), SUSPICIONS_MAX);
    assert!(told.iter().all(|it| it.because.len() < 10_000));
}

#[tokio::test]
async fn a_point_without_its_archive_or_with_another_is_incomplete() -> anyhow::Result<()> {
    let store = Store::new().await?;
    let mut manifest = point(1, "acme", 1);
    manifest.archive.size_bytes = 3;
    store.put(&manifest).await?;
    let found = store.survey(&Wanted::default(), 9).await?;
    let found = found.points.first().unwrap();
    let missing = found.is_complete(&store.storage).await;
    assert!(
        matches!(missing, Err(JobError::Damaged { .. })),
        "{missing:?}"
    );
    for (bytes, is_complete) in [("abcd", false), ("abc", true)] {
        store.lay(&manifest.archive.key, bytes)?;
        assert_eq!(found.is_complete(&store.storage).await.is_ok(), is_complete);
    }
    Ok(())
}

/// The choice is made from the survey, but the restore uses what is in the store then.
#[tokio::test]
async fn a_manifest_that_was_exchanged_is_not_the_one_that_was_found() -> anyhow::Result<()> {
    let (store, manifest) = (Store::new().await?, point(1, "acme", 1));
    store.put(&manifest).await?;
    let found = store.survey(&Wanted::default(), 9).await?.points.remove(0);
    assert!(found.is_of(&manifest, noon()));
    let mut exchanged = manifest.clone();
    exchanged.installation = Some(Uuid::from_u128(7));
    assert!(!found.is_of(&exchanged, noon()));
    assert!(!found.is_of(&point(1, "acme", 2), noon()));
    Ok(())
}
