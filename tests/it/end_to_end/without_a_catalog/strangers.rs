//! The operator is mistaken: the store is another installation's, a name is misspelt, or the stores file is out of date.

use lastgood_jobs::storage::IDENTITY;

use super::*;

/// Regression: if all points were of one installation, it was not compared with the store's.
#[tokio::test]
async fn a_point_of_another_installation_than_the_stores_is_restored_and_that_is_said() -> Result<()>
{
    let mut night = Night::in_a_directory().await?;
    let own = night.listed().await?["installation"].clone();
    let own = own.as_str().context("no installation")?.to_owned();
    let (said, _) = night.restored(&[]).await?;
    ensure!(!said.err.contains("INSTALLATION"), "{said:?}");

    let path = night.path(IDENTITY);
    let other = Uuid::new_v4().to_string();
    fs::write(&path, fs::read_to_string(&path)?.replace(&own, &other))?;
    let (said, _) = night.restored(&[]).await?;
    let told = format!(
        "INSTALLATION: the point is of installation {own}, but the store belongs to installation {other}"
    );
    ensure!(said.err.contains(&told), "{said:?}");
    let (said, _) = night.restored(&["--json"]).await?;
    ensure!(said.json()?["chosen"]["is_other_installation"] == true);

    fs::remove_file(&path)?;
    let (said, _) = night.restored(&[]).await?;
    let told = format!("the point is of installation {own}, and the store does not say whose");
    ensure!(said.err.contains(&told), "{said:?}");
    Ok(())
}

/// Regression: a stale `LASTGOOD_STORES` kept operators from a directory whose path they gave.
#[tokio::test]
async fn a_stores_file_is_needed_for_names_and_not_for_paths() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    let file = night.vault.lab.home.path().join("stores.yaml");
    let path = file.display().to_string();
    let store = std::mem::replace(&mut night.store, "naer".to_owned());
    let refused = night.list(&[]).await?.refused()?;
    ensure!(refused.contains("no stores file is given"), "{refused}");

    night.store.clone_from(&store);
    night.vault.lab.set("LASTGOOD_STORES", path.clone());
    ensure!(ids(&night.listed().await?).len() == 2, "it is missing");
    fs::write(&file, "version: 99")?;
    ensure!(ids(&night.listed().await?).len() == 2, "it is none");

    night.store = "naer".to_owned();
    let refused = night.list(&[]).await?.refused()?;
    ensure!(refused.contains("cannot be used"), "{refused}");
    let stores = format!("version: 1\nstores:\n- name: near\n  storage: {store}\n");
    fs::write(&file, stores)?;
    let refused = night.list(&[]).await?.refused()?;
    let told = format!("there is no store \"naer\": the stores file {path} names near");
    ensure!(refused.contains(&told), "{refused}");
    Ok(())
}

/// Regression: an empty listing printed headings and nothing below them.
#[tokio::test]
async fn a_listing_of_nothing_says_so() -> Result<()> {
    let night = Night::in_a_directory().await?;
    let said = night.list(&["--at", "2001-01-01T00:00:00Z"]).await?;
    let said = said.succeeded()?.out;
    ensure!(
        said == "no readable restore point matches; later than --at: 2\n",
        "{said}"
    );
    Ok(())
}
