//! A dump of what was restored has the same contents as the dump that it was restored from, and whatever is changed in
//! between is told by its group.

use anyhow::Result;
use lastgood_jobs::{
    contents::{Contents, compare},
    engine::contents::of_dump,
    job::RestoreTarget,
    resource::Engine,
};
use rstest::rstest;

use super::{
    dumps::back_up,
    lab::Lab,
    server::{
        Flavour::{self, Redis6, Redis7, Valkey9},
        Server,
    },
    shop::fill,
};

async fn contents(server: &Server) -> Result<Contents> {
    Ok(of_dump(Engine::Redis, &server.rdb().await?[..])?)
}

/// What a backup as a replica recorded.
async fn of_backup(lab: &Lab, server: &Server) -> Result<Contents> {
    let made = back_up(lab, &server.url()).await?;
    let objects = lab.store.path().join("objects");
    let archive = std::fs::File::open(objects.join(&made.manifest.archive.key))?;
    Ok(of_dump(Engine::Redis, zstd::Decoder::new(archive)?)?)
}

#[rstest]
#[case::six(Redis6, Redis6)]
#[case::seven(Redis7, Redis7)]
#[case::valkey(Valkey9, Valkey9)]
#[case::six_to_seven(Redis6, Redis7)]
#[case::six_to_valkey(Redis6, Valkey9)]
#[case::seven_to_valkey(Redis7, Valkey9)]
#[tokio::test]
async fn everything_that_comes_back_is_the_same(
    #[case] from: Flavour,
    #[case] to: Flavour,
) -> Result<()> {
    let (Some(source), Some(target)) = (
        Server::start(from, &[]).await?,
        Server::start(to, &[]).await?,
    ) else {
        return Ok(());
    };
    fill(&source).await?;
    let lab = Lab::new().await?;
    let dumped = contents(&source).await?;
    let point = lab.point_of(&source.rdb().await?)?;
    lab.restore(&point, &target.url(), RestoreTarget::Own {})
        .await?;
    for back in [contents(&target).await?, of_backup(&lab, &target).await?] {
        let comparison = compare(&dumped, &back, chrono::Utc::now());
        assert_eq!(comparison.differences, []);
        assert_eq!(comparison.left_out, []);
        assert_eq!(comparison.records, 22);
    }
    Ok(())
}

/// Values of more than 64 MiB are written by other commands than small ones.
#[tokio::test]
async fn a_large_value_that_comes_back_is_the_same() -> Result<()> {
    let settings = ["rdbcompression no"];
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &settings).await?,
        Server::start(Redis7, &[]).await?,
    ) else {
        return Ok(());
    };
    let large = "
        local body = string.rep('x', 1024 * 1024)
        for n = 1, 70 do
            redis.call('xadd', 'stream', n .. '-0', 'body', body .. n)
            redis.call('hset', 'hash', n, body .. n)
            redis.call('rpush', 'list', body .. n)
        end
        redis.call('xgroup', 'create', 'stream', 'workers', '0')
        redis.call('xreadgroup', 'group', 'workers', 'one', 'count', '3', 'streams', 'stream', '>')
        redis.call('xdel', 'stream', '1-0', '3-0')
        redis.call('set', 'string', string.rep(body, 70))
    ";
    source.ask::<()>(0, &["EVAL", large, "0"]).await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    lab.restore(&point, &target.url(), RestoreTarget::Own {})
        .await?;
    let (dumped, back) = (contents(&source).await?, contents(&target).await?);
    let comparison = compare(&dumped, &back, chrono::Utc::now());
    assert_eq!(comparison.differences, []);
    assert_eq!(comparison.records, 4);
    Ok(())
}

#[rstest]
#[case::a_string("SET string other", "keys", "0")]
#[case::a_lost_key("DEL list", "keys", "0")]
#[case::a_member("SADD set another", "keys", "0")]
#[case::a_score("ZADD zset 7.5 member1", "keys", "0")]
#[case::an_item("LSET list 0 other", "keys", "0")]
#[case::a_field("HSET hash field1 other", "hashes", "")]
#[case::an_entry("XADD stream * a b", "keys", "0")]
#[case::an_acknowledgement("XACK stream group 5-1", "keys", "0")]
#[case::a_group("XGROUP DESTROY stream group", "keys", "0")]
#[case::an_expiry("PEXPIREAT expiring 4000000000000", "expiring keys", "")]
#[case::a_lost_expiry("PERSIST expiring", "expiring keys", "")]
#[case::a_function("FUNCTION DELETE shop", "function", "shop")]
#[tokio::test]
async fn a_change_is_told(
    #[case] change: &str,
    #[case] kind: &str,
    #[case] name: &str,
) -> Result<()> {
    let Some(server) = Server::start(Redis7, &[]).await? else {
        return Ok(());
    };
    fill(&server).await?;
    let dumped = contents(&server).await?;
    server.run(0, change).await?;
    let comparison = compare(&dumped, &contents(&server).await?, chrono::Utc::now());
    let told: Vec<_> = comparison
        .differences
        .iter()
        .map(|it| (it.kind.as_str(), it.name.as_str()))
        .collect();
    let is_it = |(of, it): &(&str, &str)| *of == kind && (name.is_empty() || *it == name);
    assert!(told.iter().any(is_it), "{told:?}");
    assert!(told.len() <= 2, "{told:?}");
    Ok(())
}

#[tokio::test]
async fn another_database_is_told_by_its_number() -> Result<()> {
    let Some(server) = Server::start(Redis7, &[]).await? else {
        return Ok(());
    };
    fill(&server).await?;
    let dumped = contents(&server).await?;
    server.run(3, "SET string changed").await?;
    let told = compare(&dumped, &contents(&server).await?, chrono::Utc::now());
    let [difference] = &told.differences[..] else {
        anyhow::bail!("{told:?}");
    };
    assert_eq!(
        (difference.kind.as_str(), difference.name.as_str()),
        ("keys", "3")
    );
    Ok(())
}
