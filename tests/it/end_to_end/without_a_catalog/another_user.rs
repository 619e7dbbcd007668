//! Whoever may read a store's files can list it and restore from it: neither needs to write to the store, or to own it.

use std::fs;

use anyhow::{Result, ensure};

use super::{COUNT, Night, ids};

/// `another` runs `lastgood` as nobody if the test runs as root, whom no permission stops.
const AS_ANOTHER: &str = r#"
mkdir -m 700 nobodys
export LASTGOOD_WORK_DIR=$PWD/nobodys
[ "$(id -u)" != 0 ] || chown 65534 nobodys
another() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid 65534 --regid 65534 --clear-groups ./lastgood "$@"
    else
        lastgood "$@"
    fi
}
"#;

#[tokio::test]
async fn a_store_of_another_user_is_listed_and_restored_from() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    let home = night.vault.lab.home.path().to_owned();
    // Nobody may not reach every folder that a program was built in.
    fs::copy(env!("CARGO_BIN_EXE_lastgood"), home.join("lastgood"))?;
    let database = night.vault.empty_database(&night.shop).await?;
    let lab = &mut night.vault.lab;
    lab.set("TARGET_URL", night.shop.url_of(&database));
    lab.set("STORE", night.store.clone());
    let only_read = "chmod a+x . && chmod -R a-w,a+rX \"$STORE\"";
    let script = format!(
        "{AS_ANOTHER}\n{only_read}\nanother point list --from \"$STORE\" --json\n\
         another restore --from \"$STORE\" shop --into env:TARGET_URL >&2"
    );
    let said = lab.run_script(&script).await?.succeeded()?;
    let (older, newer) = (night.older.id.to_string(), night.newer.id.to_string());
    let listing = said.json()?;
    ensure!(ids(&listing) == [newer.as_str(), &older], "{listing}");
    ensure!(night.shop.ask_in(&database, COUNT).await? == "2000");
    // Where the test does not run as root, the temporary directory could not be removed otherwise.
    lab.run_script("chmod -R u+w \"$STORE\"")
        .await?
        .succeeded()?;
    Ok(())
}
