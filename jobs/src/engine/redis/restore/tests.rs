//! Values written in pieces, against real servers, as if every value were too large to be written whole.
//!
//! The test is here, not with the other tests against real servers, because that size is not a setting.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use rstest::rstest;
use tokio::sync::mpsc;

use self::{
    server::{
        Flavour::{self, Redis6, Redis7, Valkey9},
        Server,
    },
    shop::{every_value, fill},
};
use super::{
    encode::Encoder,
    fill::{Taken, now_ms, pour},
    survey,
};
use crate::{
    engine::{address::redis::Address, redis::connection::Connection},
    format::rdb::{Limits, Longer, split},
    storage::Storage,
    worker::{Lease, Progress, Worker},
};

#[path = "../../../../tests/real_servers/redis/server.rs"]
#[allow(dead_code, reason = "made for other tests besides")]
mod server;
#[path = "../../../../tests/real_servers/redis/shop.rs"]
#[allow(dead_code, reason = "made for other tests besides")]
mod shop;

struct Alive;

impl Lease for Alive {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
}

async fn worker(home: &Path) -> Result<Worker> {
    Ok(Worker {
        storage: Storage::open(&home.display().to_string().parse()?).await?,
        tools: Arc::default(),
        work_dir: home.to_owned(),
        encrypt_to: None,
        keyring: std::sync::Arc::new(crate::key::NoKeys),
        lease: Arc::new(Alive),
        progress: Arc::new(Progress::default()),
    })
}

/// Writes a file to a server, all of it in pieces. Returns how many keys the server took.
async fn write_in_pieces(rdb: Vec<u8>, target: &Server) -> Result<u64> {
    let home = tempfile::tempdir()?;
    let mut connection = Connection::open(&Address::parse(&target.url().into())?).await?;
    let (batches, waiting) = mpsc::channel(1);
    let limits = Limits {
        whole_value_bytes: 1,
        ..Limits::to_count()
    };
    let survey = survey::take_within(rdb.as_slice(), now_ms(), limits)?;
    anyhow::ensure!(survey.without_stub == 0, "{survey:?}");
    let mut encoder = Encoder::new(batches, now_ms(), None).with_stubs(survey.stubs);
    let encoding = tokio::task::spawn_blocking(move || {
        let limits = Limits {
            longer: Longer::Refused,
            ..limits
        };
        let summary = split(rdb.as_slice(), &mut encoder, limits).ok()?;
        encoder.finish().ok()?;
        Some(summary)
    });
    let taken = Taken::default();
    pour(
        &mut connection,
        waiting,
        &taken,
        &worker(home.path()).await?,
    )
    .await?;
    let summary = encoding.await?.context("the file was not split")?;
    anyhow::ensure!(summary.whole == 0, "{summary:?}");
    Ok(taken.keys())
}

/// Returns everything about a stream but its entries, idle times and number of nodes.
async fn groups(server: &Server) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for name in ["stream", "empty stream"] {
        let info: redis::Value = server.ask(0, &["XINFO", "STREAM", name]).await?;
        let info = format!("{info:?}").replace("bulk-string", "");
        let begin = info.find("last-generated-id").unwrap_or(0);
        said.push(info.get(begin..).unwrap_or_default().to_owned());
        let groups: redis::Value = server.ask(0, &["XINFO", "GROUPS", name]).await?;
        said.push(format!("{groups:?}"));
    }
    let words = ["XPENDING", "stream", "group", "-", "+", "1000"];
    let pending: Vec<(String, String, u64, u64)> = server.ask(0, &words).await?;
    // Two of them are for messages that were deleted since and that a dead consumer has not acknowledged.
    anyhow::ensure!(pending.len() == 48, "{pending:?}");
    let without_idle = pending
        .iter()
        .map(|(id, who, _, times)| format!("{id} {who} {times}"));
    said.extend(without_idle);
    Ok(said)
}

#[rstest]
#[case::six(Redis6, Redis6)]
#[case::seven(Redis7, Redis7)]
#[case::valkey(Valkey9, Valkey9)]
#[case::six_to_valkey(Redis6, Valkey9)]
#[tokio::test]
async fn what_is_written_in_pieces_is_the_same(
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
    // One of the keys exists already, with another type.
    target.run(0, "SET list 1").await?;
    let taken = write_in_pieces(source.rdb().await?, &target).await?;
    assert_eq!(every_value(&target).await?, every_value(&source).await?);
    assert_eq!(taken, 22);
    if from == to {
        assert_eq!(target.digest().await?, source.digest().await?);
        assert_eq!(groups(&target).await?, groups(&source).await?);
    }
    for words in [
        ["PEXPIRETIME", "expiring"].as_slice(),
        &[
            "HPEXPIRETIME",
            "hash",
            "FIELDS",
            "3",
            "field1",
            "field2",
            "field3",
        ],
    ] {
        if from == to
            && let Ok(expires) = source.ask::<redis::Value>(0, words).await
        {
            assert_eq!(target.ask::<redis::Value>(0, words).await?, expires);
        }
    }
    Ok(())
}
