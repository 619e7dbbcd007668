//! The API as a process of its own: when it may listen, how it drains, what it promises as consumers come and go, and what it keeps
//! secret.

#![expect(
    clippy::indexing_slicing,
    reason = "what a JSON value does not have is null, and a test may panic"
)]

use anyhow::{Context as _, Result, ensure};
use lastgood_client::{Client, ClientError, ProofOutcome, Restore, RunState};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE},
    program::Service,
};
use crate::eventually::{eventually, within};

impl Lab {
    async fn api(&self, name: &str, args: &[&str]) -> Result<Service> {
        let service = self.start(name, &[&["api"], args].concat())?;
        service.get("/readyz").await?;
        Ok(service)
    }

    /// Creates a token and returns its text.
    async fn token(&self, name: &str, scope: &str) -> Result<String> {
        let args = [
            "--json", "token", "create", "--name", name, "--scope", scope,
        ];
        let made = self.run(&args).await?.succeeded()?.json()?;
        Ok(made["secret"].as_str().context("no token")?.to_owned())
    }
}

/// Opens a connection and sends a request.
async fn send(service: &Service, request: &str, token: &str, body: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(service.address().await?).await?;
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    Ok(stream)
}

/// Returns the status and the body of an answer.
async fn ask(service: &Service, request: &str, token: &str, body: &str) -> Result<(u16, Value)> {
    let mut answer = String::new();
    let mut stream = send(service, request, token, body).await?;
    within(PATIENCE, "an answer", stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}

#[tokio::test]
async fn it_listens_beyond_this_machine_only_where_there_is_a_token() -> Result<()> {
    let mut lab = Lab::create().await?;
    lab.set("LASTGOOD_LISTEN", "0.0.0.0:0");
    let refused = lab.run(&["api"]).await?.refused()?;
    ensure!(refused.contains("lastgood token create"), "{refused}");
    lab.token("website", "read").await?;
    lab.api("api", &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_is_shown_once_and_opens_nothing_when_revoked() -> Result<()> {
    let lab = Lab::create().await?;
    let api = lab.api("api", &[]).await?;
    assert_eq!(ask(&api, "GET /api/v1/plans", "", "").await?.0, 401);
    let token = lab.token("website", "read").await?;
    assert_eq!(ask(&api, "GET /api/v1/plans", &token, "").await?.0, 200);
    let again = lab
        .run(&["token", "create", "--name", "website", "--scope", "read"])
        .await?;
    ensure!(again.refused()?.contains("in use"));
    let listed = lab.run(&["--json", "token", "list"]).await?.succeeded()?;
    let secret = token.splitn(3, '_').nth(2).context("no token")?;
    ensure!(!listed.out.contains(secret), "{listed:?}");
    let listed = listed.json()?;
    ensure!(
        listed[0]["name"] == "website" && listed[0]["last_used_at"].is_string(),
        "{listed}"
    );
    lab.run(&[
        "token",
        "revoke",
        listed[0]["id"].as_str().context("no id")?,
    ])
    .await?
    .succeeded()?;
    assert_eq!(ask(&api, "GET /api/v1/plans", &token, "").await?.0, 401);
    let acts = lab
        .catalog
        .catalog
        .audited(&lastgood::catalog::AuditFilter::newest(10))
        .await?;
    let told: Vec<_> = acts.iter().map(|act| act.action.as_str()).collect();
    assert_eq!(told, ["revoke_token", "create_token"]);
    Ok(())
}

#[tokio::test]
async fn capabilities_change_when_the_mongodb_consumers_stop() -> Result<()> {
    let lab = Lab::create().await?;
    let api = lab.api("api", &["--public-capabilities"]).await?;
    let producer = lab.producer()?;
    let mut mongodb = [
        lab.consumer("mongodb-1", &["--engines", "mongodb"]).await?,
        lab.consumer("mongodb-2", &["--engines", "mongodb"]).await?,
    ];
    let redis = lab.consumer("redis", &["--engines", "redis"]).await?;
    let available = async |engine: &str| -> Result<bool> {
        let (status, answer) = ask(&api, "GET /api/v1/capabilities", "", "").await?;
        ensure!(status == 200, "{answer}");
        let tiers = answer["tiers"].as_array().context("no tiers")?;
        let pro = tiers
            .iter()
            .find(|tier| tier["id"] == "pro")
            .context("no pro")?;
        let engines = pro["engines"].as_array().context("no engines")?;
        let it = engines
            .iter()
            .find(|it| it["engine"] == engine)
            .context("no engine")?;
        Ok(["backup", "restore", "verification"]
            .iter()
            .all(|what| it[what]["is_available"] == true))
    };
    for engine in ["mongodb", "redis"] {
        eventually(PATIENCE, "all is available", async || {
            available(engine).await
        })
        .await?;
    }
    mongodb[0].signal("TERM")?;
    mongodb[0].exit().await?;
    ensure!(available("mongodb").await?, "one of two is enough");
    mongodb[1].signal("TERM")?;
    mongodb[1].exit().await?;
    ensure!(!available("mongodb").await?);
    ensure!(available("redis").await?);
    drop((producer, redis));
    Ok(())
}

#[tokio::test]
async fn sigterm_ends_streams_and_then_the_process() -> Result<()> {
    let lab = Lab::create().await?;
    let mut api = lab.api("api", &[]).await?;
    let token = lab.token("root", "admin").await?;
    lab.add_url("shop", "free", "postgresql://u:p@127.0.0.1:1/shop")
        .await?;
    let run = lab.enqueue_backup("shop").await?;
    let mut stream = send(&api, &format!("GET /api/v1/runs/{run}/events"), &token, "").await?;
    let mut begin = [0; 12];
    within(PATIENCE, "the stream begins", stream.read_exact(&mut begin)).await??;
    assert_eq!(&begin, b"HTTP/1.1 200");
    api.signal("TERM")?;
    let mut rest = Vec::new();
    within(PATIENCE, "the stream ends", stream.read_to_end(&mut rest)).await??;
    let ended = api.exit().await?;
    ensure!(ended.success(), "{ended}");
    ensure!(!api.log()?.contains("cut off"), "{}", api.log()?);
    Ok(())
}

#[tokio::test]
async fn tokens_and_urls_are_in_no_log_table_or_metric() -> Result<()> {
    let mut lab = Lab::create().await?;
    lab.set("LASTGOOD_LOG", "trace");
    let api = lab.api("api", &[]).await?;
    let token = lab.token("root", "admin").await?;
    let marker = format!("hunter2{}", uuid::Uuid::new_v4().simple());
    let url = format!("postgresql://u:{marker}@h/shop");
    let good =
        format!("{{\"team\":\"acme\",\"tier\":\"pro\",\"engine\":\"postgres\",\"url\":\"{url}\"}}");
    let wrong = format!(
        "{{\"team\":\"{url}\",\"tier\":\"pro\",\"engine\":\"postgres\",\"url\":\"{url}\"}}"
    );
    for (request, body, expected) in [
        ("PUT /api/v1/resources/shop", &good, 201),
        ("PUT /api/v1/resources/shop", &good, 200),
        ("PUT /api/v1/resources/shop", &wrong, 422),
        (
            "PATCH /api/v1/resources/shop",
            &format!("{{\"url\":\"{url}\"}}"),
            200,
        ),
        (
            "PATCH /api/v1/resources/shop",
            &format!("{{\"connection\":\"{url}\"}}"),
            422,
        ),
        (
            "PATCH /api/v1/resources/shop",
            &format!("{{\"url\":\"{url}"),
            400,
        ),
        ("POST /api/v1/resources/shop/backups", &String::new(), 202),
        ("GET /api/v1/resources/shop", &String::new(), 200),
    ] {
        let (status, answer) = ask(&api, request, &token, body).await?;
        ensure!(status == expected, "{request}: {status} {answer}");
        ensure!(!answer.to_string().contains(&marker), "{request}: {answer}");
    }
    let secret = token.splitn(3, '_').nth(2).context("no token")?;
    let metrics = api.get("/metrics").await?;
    let tables: Vec<String> = sqlx::query_scalar("select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'lastgood'")
        .fetch_all(lab.catalog.pool())
        .await?;
    let mut rows = String::new();
    for table in tables {
        let statement =
            format!("select coalesce(string_agg(t::text, E'\\n'), '') from {table} as t");
        let text: String = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .fetch_one(lab.catalog.pool())
            .await?;
        rows += &text;
    }
    for (place, text) in [
        ("the log", api.log()?),
        ("a metric", metrics),
        ("a table", rows),
    ] {
        ensure!(!text.contains(&marker), "the URL is seen in {place}");
        ensure!(!text.contains(secret), "the token is seen in {place}");
        ensure!(!text.is_empty());
    }
    ensure!(api.log()?.contains("token.name=\"root\""), "{}", api.log()?);
    Ok(())
}

#[tokio::test]
async fn the_typed_client_asks_waits_and_tells_refusals_apart() -> Result<()> {
    let lab = Lab::create().await?;
    let api = lab.api("api", &[]).await?;
    let shop = Customer::create(Rights::Owner).await?;
    shop.run("create table orders as select n from generate_series(1, 100) n")
        .await?;
    lab.add("shop", &shop).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let base = format!("http://{}", api.address().await?);
    let client = Client::new(&base, lab.token("deploys", "enqueue,read").await?.into())?;

    let run = client.back_up("shop", "migration-1").await?;
    assert_eq!(client.back_up("shop", "migration-1").await?.id, run.id);
    let ended = client.wait(run.id, PATIENCE).await?;
    ensure!(
        ended.state == RunState::Succeeded && ended.dump_bytes > 0,
        "{ended:?}"
    );
    let points = client.restore_points("shop").await?;
    ensure!(
        points.len() == 1 && points[0].id == run.id && points[0].is_trusted,
        "{points:?}"
    );
    ensure!(
        client
            .capabilities()
            .await?
            .tiers
            .iter()
            .any(|tier| tier.id == "pro")
    );

    let refused = |error: ClientError| {
        if let ClientError::Refused(problem) = error {
            Ok(problem.status)
        } else {
            Err(error)
        }
    };
    let restore = client.restore("shop", &Restore::default(), "back").await;
    assert_eq!(refused(restore.err().context("it may not")?)?, 403);
    assert_eq!(
        refused(
            client
                .back_up("nothing", "k")
                .await
                .err()
                .context("nothing is there")?
        )?,
        404
    );
    let nobody = Client::new(&base, "lastgood_x".to_owned().into())?;
    assert_eq!(
        refused(nobody.run(run.id).await.err().context("no token")?)?,
        401
    );

    let restorer = Client::new(&base, lab.token("restorer", "restore,read").await?.into())?;
    shop.run("drop table orders").await?;
    let restoring = restorer
        .restore("shop", &Restore::default(), "back")
        .await?;
    assert_eq!(restoring.point, run.id);
    let ended = restorer.wait(restoring.run.id, PATIENCE).await?;
    ensure!(ended.state == RunState::Succeeded, "{ended:?}");
    let proofs = restorer.proofs("shop").await?;
    ensure!(
        proofs.iter().any(|proof| {
            proof.kind == "restore"
                && proof.outcome == ProofOutcome::Proven
                && proof.point == run.id
        }),
        "{proofs:?}"
    );
    let other = Restore {
        point: Some(run.id),
        ..Restore::default()
    };
    assert_eq!(
        refused(
            restorer
                .restore("shop", &other, "back")
                .await
                .err()
                .context("another body")?
        )?,
        409
    );
    Ok(())
}

/// What it says of tiers and promises is then not the operator's own.
#[tokio::test]
async fn it_logs_that_the_plans_file_cannot_be_used_when_it_starts() -> Result<()> {
    let lab = Lab::create().await?;
    let nowhere = lab.home.path().join("nowhere.yaml");
    let nowhere = nowhere.to_str().context("a path")?;
    let api = lab.api("api", &["--plans", nowhere]).await?;
    eventually(PATIENCE, "the fault is logged", async || {
        let log = api.log()?;
        Ok(log.contains("the built-in plans are in force") && log.contains("nowhere.yaml"))
    })
    .await
}
