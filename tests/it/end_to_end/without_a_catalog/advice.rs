//! Advice given without a catalog never names a command that needs one.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::key::Identity;
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::Night;

/// The commands that need no catalog.
const NEED_NO_CATALOG: [&str; 3] = [
    "point list --from ",
    "restore --from ",
    "restore --from-manifest ",
];

/// Every noun of the command line.
const NOUNS: [&str; 22] = [
    "api",
    "audit",
    "backup",
    "catalog",
    "completions",
    "consumer",
    "doctor",
    "health",
    "key",
    "limits",
    "migrate",
    "plans",
    "point",
    "producer",
    "queue",
    "resource",
    "restore",
    "retention",
    "run",
    "status",
    "store",
    "verify",
];

/// Checks that every lastgood command in a text works without the catalog.
fn names_no_command_that_needs_a_catalog(said: &str) -> Result<()> {
    let after_name = said.split("lastgood ").skip(1);
    let after_quote = said.split('`').skip(1);
    for named in after_name.chain(after_quote) {
        let noun = named.split([' ', '`']).next().unwrap_or_default();
        ensure!(
            !NOUNS.contains(&noun) || NEED_NO_CATALOG.iter().any(|known| named.starts_with(known)),
            "{named:?} needs a catalog: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn no_refusal_without_a_catalog_names_a_command_that_needs_one() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    let (store, key) = (night.store.clone(), night.newer.manifest_key.clone());
    let (newer, nobody) = (night.newer.id.to_string(), Uuid::new_v4().to_string());
    let home = night.vault.lab.home.path().display().to_string();
    let identity = format!("{home}/identity.txt");
    fs::write(&identity, Identity::generate().to_line().expose_secret())?;
    let empty = format!("{home}/empty");
    fs::create_dir_all(format!("{empty}/objects"))?;
    let archive = crate::end_to_end::store::archive(&night.vault.lab.store(), &night.newer)?;
    let url = night.shop.url();
    let gone = night.shop.url_of("gone_altogether");
    night.vault.lab.set("FULL_URL", url.clone());
    night.vault.lab.set("GONE_URL", gone);

    let from = |args: &[&str]| {
        let args = [&["restore", "--from", &store], args].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let manifest = |args: &[&str]| {
        let args = [&["restore", "--storage", &store, "--from-manifest"], args].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let list = |args: &[&str]| {
        let args = [&["point", "list", "--from"], args].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let into = ["--into", "env:TARGET_URL"];
    let [into, target] = into;
    let refusals = [
        list(&["/not/there"]),
        list(&[&empty]),
        list(&[&store, "--team", "nobody"]),
        list(&["gs://bucket"]),
        list(&["s3://bucket/without/keys"]),
        list(&["near", "--stores", "/not/there"]),
        from(&["nothing", into, target]),
        from(&["shop", into, "shop"]),
        from(&["shop", into, &url]),
        from(&["shop", into, "env:NOT_SET_ANYWHERE"]),
        from(&["shop", into, "file:/not/there"]),
        from(&["shop", into, "env:FULL_URL"]),
        from(&["shop", into, "env:GONE_URL"]),
        from(&["shop", into, target, "--at", "2001-01-01T00:00:00Z"]),
        from(&["shop", into, target, "--point", &nobody]),
        from(&["shop", into, target, "--even-suspect"]),
        from(&["shop", into, target, "--identity", "/not/there"]),
        from(&["shop", into, target, "--identity", &identity]),
        manifest(&["v1/acme/shop/gone.manifest.json", into, target]),
        manifest(&["not a key", into, target]),
        manifest(&["/elsewhere/x.manifest.json", into, target]),
        manifest(&[&key, into, "env:FULL_URL"]),
        manifest(&[&key, into, target, "--identity", &identity]),
    ];
    for args in refusals {
        let database = night.vault.empty_database(&night.shop).await?;
        night
            .vault
            .lab
            .set("TARGET_URL", night.shop.url_of(&database));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let refused = night.vault.lab.run(&args).await?.refused();
        let refused = refused.with_context(|| format!("{args:?}"))?;
        names_no_command_that_needs_a_catalog(&refused).with_context(|| format!("{args:?}"))?;
        ensure!(!refused.contains("DATABASE_URL"), "{args:?}: {refused}");
    }

    // Faults of the store, its manifests and its archives.
    let identity = night.vault.objects().join(lastgood_jobs::storage::IDENTITY);
    fs::write(&identity, "{}")?;
    let listed = night.list(&[]).await?.succeeded()?.out;
    ensure!(listed.contains("NO IDENTITY"), "{listed}");
    names_no_command_that_needs_a_catalog(&listed)?;
    let bytes = fs::read(&archive)?;
    let flipped: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    for damaged in [flipped, Vec::new()] {
        fs::write(&archive, damaged)?;
        let by_key = ["--from-manifest", &key, "--storage", &store];
        let refused = night.restore(&by_key).await?.0.refused()?;
        names_no_command_that_needs_a_catalog(&refused)?;
        ensure!(refused.contains("lastgood point list --from"), "{refused}");
        let refused = night.refused(&["--point", &newer]).await?;
        names_no_command_that_needs_a_catalog(&refused)?;
        let listed = night.list(&[]).await?.succeeded()?.out;
        names_no_command_that_needs_a_catalog(&listed)?;
    }
    Ok(())
}

/// A command that needs the lost catalog names one that does not.
#[tokio::test]
async fn a_command_whose_catalog_is_gone_says_what_needs_none() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    for url in ["", "postgresql://u:marker@127.0.0.1:9/db"] {
        night.vault.lab.set("DATABASE_URL", url);
        for (command, instead) in [
            (&["point", "list"][..], "`lastgood point list --from STORE`"),
            (
                &["restore", "shop"],
                "`lastgood restore --from STORE shop --into env:NAME`",
            ),
        ] {
            let refused = night.vault.lab.run(command).await?.refused()?;
            ensure!(
                refused.contains(instead) && !refused.contains("marker"),
                "{refused}"
            );
        }
    }
    Ok(())
}
