use std::io::Write as _;

use lastgood_jobs::storage::{KeySource, Lender, LentBy};
use rstest::rstest;

use super::*;

fn args(stores: &str) -> anyhow::Result<(StorageArgs, tempfile::NamedTempFile)> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(stores.as_bytes())?;
    let args = StorageArgs {
        storage: "unused".to_owned(),
        stores: Some(file.path().to_owned()),
    };
    Ok((args, file))
}

#[tokio::test]
async fn the_first_store_of_a_file_is_the_primary_and_the_others_are_mirrors() -> anyhow::Result<()>
{
    let home = tempfile::tempdir()?;
    let at = |name: &str| home.path().join(name).display().to_string();
    std::fs::write(at("id"), "AKIAX\n")?;
    std::fs::write(at("key"), "marker\n")?;
    for name in ["id", "key"] {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(at(name), private)?;
    }
    let (args, _file) = args(&format!(
        "version: 1\nstores:\n- name: here\n  storage: {}\n- name: far-away\n  storage: s3://backups/eu\n  \
         endpoint: https://s3.example:9000\n  region: eu-1\n  path_style: true\n  checksums: true\n  \
         access_key_id: file:{}\n  secret_access_key: file:{}\n",
        at("store"),
        at("id"),
        at("key"),
    ))?;
    let stores = Stores::open(&args, &Absent::Made).await?;
    assert_eq!(stores.primary().name, "here");
    let mirrors: Vec<&str> = stores.mirrors().map(|store| store.name.as_str()).collect();
    assert_eq!(mirrors, ["far-away"]);
    assert_eq!(stores.iter().count(), 2);
    assert!(stores.get("far-away").is_some() && stores.get("other").is_none());
    assert_eq!(
        names(&args)?,
        ("here".to_owned(), vec!["far-away".to_owned()])
    );
    assert!(!format!("{stores:?}").contains("marker"), "{stores:?}");
    Ok(())
}

#[rstest]
#[case::version("version: 2\nstores: [{name: a, storage: /x}]", "version 2")]
#[case::none("version: 1\nstores: []", "names no store")]
#[case::twice(
    "version: 1\nstores: [{name: a, storage: /x}, {name: a, storage: /y}]",
    "two stores"
)]
#[case::name("version: 1\nstores: [{name: A, storage: /x}]", "lower-case")]
#[case::field(
    "version: 1\nstores: [{name: a, storage: /x, acces_key_id: hunter2}]",
    "docs/how-to/stores.md describes it: there is no field `acces_key_id`"
)]
#[case::field_that_is_a_value(
    "version: 1\nstores: [{name: a, storage: /x, hunter2: x}]",
    "line 2 is not as docs/how-to/stores.md describes it"
)]
#[case::region(
    "version: 1\nstores: [{name: a, storage: 's3://bucket', access_key_id: 'env:PATH', secret_access_key: 'env:PATH'}]",
    "give `region:`"
)]
#[case::key_in_url(
    "version: 1\nstores: [{name: a, storage: 's3://k:hunter2@bucket'}]",
    "keys come from"
)]
#[case::value(
    "version: 1\nstores: [{name: a, storage: 's3://bucket', access_key_id: 'hunter2', secret_access_key: hunter2}]",
    "access_key_id of store \"a\""
)]
#[case::half(
    "version: 1\nstores: [{name: a, storage: 's3://bucket', access_key_id: 'env:PATH'}]",
    "only one of access_key_id and secret_access_key"
)]
#[case::token_alone(
    "version: 1\nstores: [{name: a, storage: 's3://bucket', session_token: 'env:PATH'}]",
    "give access_key_id and secret_access_key as well"
)]
#[case::grant(
    "version: 1\nstores: [{name: a, storage: 's3://bucket', credentials: hunter2}]",
    "one of keys, chain, web_identity, container, profile, instance"
)]
#[case::keys_and_a_lender(
    "version: 1\nstores: [{name: a, storage: 's3://bucket', credentials: chain, access_key_id: 'env:PATH', secret_access_key: 'env:PATH'}]",
    "leave one out"
)]
#[case::endpoint(
    "version: 1\nstores: [{name: a, storage: 's3://bucket', endpoint: 'https://k:hunter2@host'}]",
    "without keys"
)]
#[tokio::test]
async fn a_file_that_cannot_be_used_says_why_and_repeats_no_secret(
    #[case] text: &str,
    #[case] why: &str,
) -> anyhow::Result<()> {
    let (args, _file) = args(text)?;
    let Err(error) = Stores::open(&args, &Absent::Made).await else {
        anyhow::bail!("it was taken")
    };
    let said = lastgood_jobs::error::chain(&error);
    assert!(said.contains(why), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    Ok(())
}

#[tokio::test]
async fn whoever_only_reads_makes_no_store() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let there = home.path().join("not-mounted");
    let args = StorageArgs {
        storage: there.display().to_string(),
        stores: None,
    };
    let used = Absent::MadeUnless([PRIMARY.to_owned()].into());
    for absent in [&Absent::Refused, &Absent::LeftOut, &used] {
        let Err(error) = Stores::open(&args, absent).await else {
            anyhow::bail!("it was made")
        };
        let said = lastgood_jobs::error::chain(&error);
        assert!(said.contains("there is no store in"), "{said}");
        assert!(!there.exists());
    }
    let other = Absent::MadeUnless(["far".to_owned()].into());
    Stores::open(&args, &other).await?;
    for absent in [&Absent::Refused, &used] {
        Stores::open(&args, absent).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_holds_a_key_is_refused_and_not_repeated() -> anyhow::Result<()> {
    let args = StorageArgs {
        storage: "s3://AKIAX:hunter2@bucket/x".to_owned(),
        stores: None,
    };
    let opened = Stores::open(&args, &Absent::Made).await.map(drop);
    for refused in [opened, names(&args).map(drop)] {
        let said = refused
            .err()
            .map(|error| lastgood_jobs::error::chain(&error));
        let said = said.unwrap_or_default();
        assert!(said.contains("keys come from"), "{said}");
        assert!(
            !said.contains("hunter2") && !said.contains("AKIAX"),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_mirror_that_is_not_there_is_left_out_and_keeps_nobody_from_the_primary()
-> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let at = |name: &str| home.path().join(name);
    let (args, _file) = args(&format!(
        "version: 1\nstores:\n- name: here\n  storage: {}\n- name: far\n  storage: {}\n",
        at("here").display(),
        at("far").display(),
    ))?;
    let names = |stores: &Stores| -> Vec<String> {
        stores.iter().map(|store| store.name.clone()).collect()
    };
    let used = Absent::MadeUnless(["far".to_owned()].into());
    assert_eq!(names(&Stores::open(&args, &used).await?), ["here"]);
    assert!(!at("far").exists());
    // With the primary missing instead, a reader makes do with the mirror, and a writer does not start.
    std::fs::rename(at("here"), at("far"))?;
    assert_eq!(
        names(&Stores::open(&args, &Absent::LeftOut).await?),
        ["far"]
    );
    let used = Absent::MadeUnless(["here".to_owned()].into());
    let missing = Stores::open(&args, &used).await.err();
    assert_eq!(
        missing.and_then(|error| error.missing()),
        Some("here".to_owned())
    );
    assert!(!at("here").exists());
    Ok(())
}

#[tokio::test]
async fn one_store_is_opened_by_its_name_or_address_and_no_other_is_needed() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let at = |name: &str| home.path().join(name).display().to_string();
    for name in ["here", "aside"] {
        Storage::open(&at(name).parse()?).await?;
    }
    // The other store's keys cannot be read, and it does not exist either.
    let (args, _file) = args(&format!(
        "version: 1\nstores:\n- name: far\n  storage: s3://backups/eu\n  region: eu-1\n  \
         access_key_id: env:NOT_SET_ANYWHERE\n  secret_access_key: env:NOT_SET_ANYWHERE\n- name: here\n  storage: {}\n",
        at("here"),
    ))?;
    let opened = async |store: &str| open_one(store, args.stores.as_deref()).await;
    for (store, name, address) in [
        ("here", "here", at("here")),
        (&at("here"), "here", at("here")),
        (&at("aside"), PRIMARY, at("aside")),
    ] {
        let found = opened(store).await?;
        assert_eq!(
            (found.name.as_str(), found.url.to_string()),
            (name, address)
        );
    }
    for (store, why) in [
        ("far", "access_key_id of store \"far\""),
        (&at("nowhere"), "there is no store in"),
        ("s3://AKIAX:hunter2@bucket/x", "keys come from"),
    ] {
        let Err(error) = opened(store).await else {
            anyhow::bail!("{store} was opened")
        };
        let said = lastgood_jobs::error::chain(&error);
        assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
    }
    Ok(())
}

/// Regression: the roles of machines and containers were not read at all, and keys only at the start.
#[tokio::test]
async fn keys_in_files_are_read_again_and_keys_are_lent_where_that_is_said() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let at = |name: &str| home.path().join(name).display().to_string();
    std::fs::write(at("id"), "OLD\n")?;
    std::fs::write(at("key"), "marker-of-the-old\n")?;
    let (args, _file) = args(&format!(
        "version: 1\nstores:\n- name: rotated\n  storage: s3://bucket\n  region: eu-1\n  access_key_id: file:{}\n  \
         secret_access_key: file:{}\n- name: lent\n  storage: s3://bucket\n  region: eu-1\n  credentials: instance\n- name: fixed\n  \
         storage: s3://bucket\n  region: eu-1\n  access_key_id: env:PATH\n  secret_access_key: env:PATH\n",
        at("id"),
        at("key"),
    ))?;
    let sources = configured(&args)?.into_iter();
    let sources: Vec<_> = sources.filter_map(|it| it.access.credentials).collect();
    let [
        KeySource::Read { first, again },
        KeySource::Lent(Lender {
            by: LentBy::Instance,
            ..
        }),
        KeySource::Fixed(_),
    ] = sources.as_slice()
    else {
        anyhow::bail!("{sources:?}")
    };
    assert_eq!(first.access_key_id, "OLD");
    std::fs::write(at("id"), "NEW\n")?;
    std::fs::write(at("key"), "marker-of-the-new\n")?;
    let read = again.read().await.map_err(anyhow::Error::msg)?;
    assert_eq!(read.access_key_id, "NEW");
    std::fs::remove_file(at("key"))?;
    let why = again.read().await.map(drop).unwrap_err();
    assert!(why.contains("cannot read"), "{why}");
    assert!(!format!("{sources:?}").contains("marker"), "{sources:?}");
    Ok(())
}

/// Regression: every process that opened such a file waited for a writer, `doctor` included.
#[test]
fn a_stores_file_that_is_a_pipe_is_refused_at_once() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let pipe = directory.path().join("stores.yaml");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0)?;
    // On another thread, so that a reader that waits fails the test after 20 s.
    let (told, tell) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send(file::names(&pipe).map_err(|error| chain(&error))));
    let error = tell.recv_timeout(std::time::Duration::from_secs(20))?;
    let error = error.unwrap_err();
    assert!(error.contains("is not a regular file"), "{error}");
    Ok(())
}
