use std::io::Write as _;

use rstest::rstest;

use super::*;

fn args(stores: &str) -> anyhow::Result<(StorageArgs, tempfile::NamedTempFile)> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(stores.as_bytes())?;
    let args = StorageArgs {
        storage: "unused".parse()?,
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
    let stores = Stores::open(&args).await?;
    assert_eq!(stores.primary().name, "here");
    let mirrors: Vec<&str> = stores
        .mirrors()
        .iter()
        .map(|store| store.name.as_str())
        .collect();
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
    "version: 1\nstores: [{name: a, storage: /x, key: hunter2}]",
    "docs/stores.md"
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
    "one without the other"
)]
#[case::endpoint(
    "version: 1\nstores: [{name: a, storage: 's3://bucket', endpoint: 'https://k:hunter2@host'}]",
    "holds no key"
)]
#[tokio::test]
async fn a_file_that_cannot_be_used_says_why_and_repeats_no_secret(
    #[case] text: &str,
    #[case] why: &str,
) -> anyhow::Result<()> {
    let (args, _file) = args(text)?;
    let Err(error) = Stores::open(&args).await else {
        anyhow::bail!("it was taken")
    };
    let said = lastgood_jobs::error::chain(&error);
    assert!(said.contains(why), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    Ok(())
}
