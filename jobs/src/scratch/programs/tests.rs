//! Which program is chosen, from fakes that print a version.

use rstest::rstest;

use super::*;

fn fake(directory: &Path, program: &str, says: &str) -> anyhow::Result<()> {
    let path = directory.join(program);
    std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n"))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

#[tokio::test]
async fn programs_are_known_by_what_they_say_of_themselves() -> anyhow::Result<()> {
    let (first, second) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for (directory, version) in [(&first, "18.6"), (&second, "18.1")] {
        fake(
            directory.path(),
            "initdb",
            &format!("initdb (PostgreSQL) {version}"),
        )?;
        fake(
            directory.path(),
            "postgres",
            &format!("postgres (PostgreSQL) {version}"),
        )?;
    }
    let said = "db version v6.0.5\nBuild Info: {\n    \"version\": \"6.0.5\"\n}";
    fake(first.path(), "mongod", said)?;
    fake(
        second.path(),
        "redis-server",
        "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1",
    )?;
    // A link from the old name.
    fake(
        first.path(),
        "redis-server",
        "Valkey server v=9.1.2 sha=00000000:0",
    )?;
    fake(
        first.path(),
        "valkey-server",
        "Valkey server v=9.1.2 sha=00000000:0",
    )?;
    let paths = [first.path().to_owned(), second.path().to_owned()];
    let shown = ServerPrograms::only(&paths).await.shown();
    let at = |what: &str, dir: &tempfile::TempDir, program: &str| {
        format!("{what} in {}", dir.path().join(program).display())
    };
    assert_eq!(
        shown,
        [
            at("PostgreSQL 18.6", &first, "postgres"),
            at("MongoDB 6.0.5", &first, "mongod"),
            at("Redis 7.0.15", &second, "redis-server"),
            at("Valkey 9.1.2", &first, "valkey-server"),
        ]
    );
    Ok(())
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let none = ServerPrograms::default();
    let said = none.postgres(17).unwrap_err().to_string();
    assert!(
        said.contains("no PostgreSQL 17") && said.contains("none at all"),
        "{said}"
    );
    let some = mongodbs(&[(4, 4, 2), (5, 0, 4)]);
    let said = some.mongodb(Version(6, 0, 1)).unwrap_err().to_string();
    assert!(
        said.contains("MongoDB 6.0 or newer") && said.contains("4.4.2, 5.0.4"),
        "{said}"
    );
    assert_eq!(
        some.mongodb(Version(6, 0, 1)).unwrap_err().as_str(),
        "no_server"
    );
}

fn mongodbs(versions: &[(u32, u32, u32)]) -> ServerPrograms {
    let one = |&(major, minor, patch): &(u32, u32, u32)| {
        (Version(major, minor, patch), PathBuf::from("/mongod"))
    };
    ServerPrograms {
        mongodb: versions.iter().map(one).collect(),
        ..ServerPrograms::default()
    }
}

#[rstest]
#[case::same((6, 0, 1), Some((6, 0, 27)))]
#[case::newer_patch((6, 0, 99), Some((6, 0, 27)))]
#[case::next_series((4, 2, 0), Some((4, 4, 2)))]
#[case::between((5, 3, 0), Some((6, 0, 27)))]
#[case::too_new((7, 0, 0), None)]
fn mongodb_is_of_the_same_series_or_the_next(
    #[case] (major, minor, patch): (u32, u32, u32),
    #[case] expected: Option<(u32, u32, u32)>,
) {
    let some = mongodbs(&[(4, 4, 2), (6, 0, 5), (6, 0, 27)]);
    let found = some.mongodb(Version(major, minor, patch)).ok();
    let expected = expected.map(|(major, minor, patch)| Version(major, minor, patch));
    assert_eq!(found.map(|(version, _)| version), expected);
}

#[rstest]
#[case::oldest_that_reads(Flavour::Redis, 9, Some("Redis 6.2.5"))]
#[case::newer(Flavour::Redis, 10, Some("Redis 7.2.0"))]
#[case::of_redis_alone(Flavour::Redis, 12, Some("Redis 8.0.0"))]
#[case::of_its_flavour(Flavour::Valkey, 9, Some("Valkey 9.0.1"))]
#[case::of_valkey_alone(Flavour::Valkey, 80, Some("Valkey 9.0.1"))]
#[case::too_new(Flavour::Redis, 13, None)]
fn redis_is_of_the_same_flavour_and_reads_the_dump(
    #[case] flavour: Flavour,
    #[case] rdb_version: u32,
    #[case] expected: Option<&str>,
) {
    let versions = [
        (Flavour::Redis, Version(6, 2, 5)),
        (Flavour::Redis, Version(7, 2, 0)),
        (Flavour::Redis, Version(8, 0, 0)),
        (Flavour::Valkey, Version(9, 0, 1)),
    ];
    let some = ServerPrograms {
        redis: versions
            .into_iter()
            .map(|it| (it, PathBuf::from("/it")))
            .collect(),
        ..ServerPrograms::default()
    };
    let found = some.redis(flavour, rdb_version).ok();
    let found = found.map(|(flavour, version, _)| format!("{flavour} {version}"));
    assert_eq!(found.as_deref(), expected);
}

/// Up to 11 the format is common to both.
#[rstest]
#[case::common(Flavour::Valkey, 11, Some("Redis 7.2.0"))]
#[case::valkey(Flavour::Valkey, 80, None)]
fn the_other_flavour_does_for_what_both_know(
    #[case] flavour: Flavour,
    #[case] rdb_version: u32,
    #[case] expected: Option<&str>,
) {
    let some = ServerPrograms {
        redis: [((Flavour::Redis, Version(7, 2, 0)), PathBuf::from("/it"))].into(),
        ..ServerPrograms::default()
    };
    let found = some.redis(flavour, rdb_version).ok();
    let found = found.map(|(flavour, version, _)| format!("{flavour} {version}"));
    assert_eq!(found.as_deref(), expected);
}

#[rstest]
#[case::plain("6.0.5", Some(Version(6, 0, 5)))]
#[case::named("MongoDB 8.0.4-rc1", Some(Version(8, 0, 4)))]
#[case::two("Redis 7.0", Some(Version(7, 0, 0)))]
#[case::none("MongoDB unknown", None)]
fn versions_are_found_in_texts(#[case] text: &str, #[case] version: Option<Version>) {
    assert_eq!(Version::find(text), version);
}
