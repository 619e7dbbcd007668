//! Connections are limited in number, request heads in time, and a drain does not wait for an unfinished head.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use lastgood::{
    api::{Settings, serve, serve_on},
    catalog::{NewToken, Order},
    plan::PlansFile,
    token::Scope,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::lab::Api;
use crate::{
    database::TestCatalog,
    eventually::{SOON, within},
};

const NEVER: Duration = Duration::from_hours(1);
const UNFINISHED: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ";

/// An API on a socket.
struct Listening {
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<Result<()>>,
    _db: TestCatalog,
}

impl Listening {
    async fn with(change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let db = TestCatalog::create().await?;
        let mut settings = Api::settings()?;
        settings.drain_timeout = NEVER;
        change(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let recorder = PrometheusBuilder::new().build_recorder().handle();
        let catalog = db.catalog.clone();
        let served = tokio::spawn(serve_on(
            listener,
            catalog,
            PlansFile::load("no plans"),
            settings,
            recorder,
            stop.clone(),
        ));
        Ok(Self {
            address,
            stop,
            served,
            _db: db,
        })
    }

    async fn send(&self, bytes: &[u8]) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(bytes).await?;
        Ok(stream)
    }
}

const WHOLE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

async fn answer(stream: &mut TcpStream) -> Result<String> {
    let mut answer = String::new();
    within(
        SOON,
        "the connection ends",
        stream.read_to_string(&mut answer),
    )
    .await??;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_is_not_waited_for() -> Result<()> {
    let api = Listening::with(|settings| settings.head_within = Duration::from_millis(200)).await?;
    for head in [UNFINISHED, b""] {
        let mut stream = api.send(head).await?;
        let said = answer(&mut stream).await?;
        ensure!(!said.contains("200 OK"), "{said}");
    }
    ensure!(
        answer(&mut api.send(WHOLE).await?)
            .await?
            .contains("200 OK")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_more_waits_until_another_ends() -> Result<()> {
    let api = Listening::with(|settings| {
        settings.connections = 2;
        settings.head_within = NEVER;
    })
    .await?;
    let first = api.send(UNFINISHED).await?;
    let _second = api.send(UNFINISHED).await?;
    let mut third = api.send(WHOLE).await?;
    let early = timeout(Duration::from_millis(300), third.readable()).await;
    ensure!(early.is_err(), "it was answered with no place for it");
    drop(first);
    ensure!(answer(&mut third).await?.contains("200 OK"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_no_head() -> Result<()> {
    let api = Listening::with(|settings| settings.head_within = NEVER).await?;
    let _idle = api.send(b"").await?;
    let _unfinished = api.send(UNFINISHED).await?;
    // This one is answered, so the connections before it have been accepted.
    ensure!(
        answer(&mut api.send(WHOLE).await?)
            .await?
            .contains("200 OK")
    );
    api.stop.cancel();
    within(SOON, "the API stops", api.served).await???;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_good_no_more_opens_no_listener_to_others() -> Result<()> {
    let db = TestCatalog::create().await?;
    let stop = CancellationToken::new();
    stop.cancel();
    let listens = async || {
        let mut settings = Api::settings()?;
        settings.listen = "0.0.0.0:0".parse()?;
        let recorder = PrometheusBuilder::new().build_recorder().handle();
        let plans = PlansFile::load("no plans");
        serve(db.catalog.clone(), plans, settings, recorder, stop.clone()).await
    };
    let order = Order::new("test", None);
    let mut ids = Vec::new();
    for name in ["revoked", "expired"] {
        let new = NewToken {
            name,
            scopes: &[Scope::Read],
            team: None,
            expires_at: None,
        };
        ids.push(db.catalog.create_token(&new, &order).await?.0.id);
    }
    listens().await?;
    db.execute("update lastgood.tokens set revoked_at = now() where name = 'revoked'")
        .await?;
    listens().await?;
    db.execute("update lastgood.tokens set expires_at = now() where name = 'expired'")
        .await?;
    let refused = listens().await;
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.to_string().contains("no token yet")),
        "{refused:?}"
    );
    Ok(())
}
