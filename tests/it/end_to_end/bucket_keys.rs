//! Bucket keys are rotated in their files or lent. A consumer continues with the new ones, and no key shows up anywhere.

use lastgood::run::RunState;
use std::fs;

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE},
    store,
};
use crate::{eventually::eventually, variable};

const GRANT: &str = "marker-of-a-grant";
const SECRET: &str = "marker-of-a-lent-secret";
const TOKEN: &str = "marker-of-a-lent-token";

/// Creates a lab whose only store is a bucket on the named server, and a customer in it.
async fn lab_with_bucket(server: &str) -> Result<(Lab, Customer)> {
    let mut lab = Lab::create().await?;
    let bucket = variable("LASTGOOD_TEST_S3_BUCKET")?;
    let unique = uuid::Uuid::new_v4();
    lab.set("LASTGOOD_STORAGE", format!("s3://{bucket}/{unique}"));
    let endpoint = variable(&format!("LASTGOOD_TEST_S3_{server}_URL"))?;
    lab.set("AWS_ENDPOINT_URL_S3", endpoint);
    let shop = Customer::create(Rights::Owner).await?;
    shop.run("create table items as select n from generate_series(1, 100) n")
        .await?;
    lab.add("shop", &shop).await?;
    Ok((lab, shop))
}

/// A container's agent, which lends keys to anyone who presents its grant.
struct Agent {
    url: String,
    listening: JoinHandle<()>,
}

impl Agent {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/keys", listener.local_addr()?);
        let listening = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let read = client.read(&mut request).await.unwrap_or(0);
                request.truncate(read);
                let is_granted = String::from_utf8_lossy(&request).contains(GRANT);
                let body = if is_granted {
                    format!(
                        r#"{{"AccessKeyId":"LENT","SecretAccessKey":"{SECRET}","Token":"{TOKEN}","Expiration":"2999-01-01T00:00:00Z"}}"#
                    )
                } else {
                    "no".to_owned()
                };
                let status = if is_granted {
                    "200 OK"
                } else {
                    "403 Forbidden"
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(client.write_all(answer.as_bytes()).await);
            }
        });
        Ok(Self { url, listening })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Regression: this failed with `no keys are configured`, whatever the cloud would have lent.
#[tokio::test]
async fn keys_that_a_containers_agent_lends_make_backups_and_are_seen_nowhere() -> Result<()> {
    let (mut lab, _shop) = lab_with_bucket("MOTO").await?;
    let agent = Agent::start().await?;
    // A lender in the environment changes nothing by itself.
    lab.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.url.clone());
    lab.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", GRANT);
    let refused = lab.run(&["consumer"]).await?.refused()?;
    ensure!(refused.contains("LASTGOOD_S3_CREDENTIALS"), "{refused}");

    lab.set("LASTGOOD_S3_CREDENTIALS", "chain");
    lab.set("LASTGOOD_LOG", "trace");
    let consumer = lab.consumer("consumer", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    lab.succeeds(run).await?;
    let doctor = lab.run(&["doctor"]).await?;
    ensure!(
        doctor.out.contains("ok   store         primary"),
        "{doctor:?}"
    );
    ensure!(consumer.log()?.contains("TRACE"), "the log says too little");

    lab.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "marker-of-a-wrong-one");
    let doctor = lab.run(&["doctor"]).await?;
    ensure!(
        doctor
            .out
            .contains("container lends none: ECS task not authorized"),
        "{doctor:?}"
    );
    for file in store::files(lab.home.path())? {
        let text = fs::read(lab.home.path().join(&file))?;
        let text = String::from_utf8_lossy(&text);
        ensure!(!text.contains("marker-of-a-"), "a secret is seen in {file}");
    }
    Ok(())
}

/// Regression: a rotated key required a restart of every consumer, and backups failed until then.
#[tokio::test]
async fn a_consumer_takes_up_keys_that_were_rotated_in_their_file_without_a_restart() -> Result<()>
{
    let (mut lab, _shop) = lab_with_bucket("S3S").await?;
    let file = lab.home.path().join("secret");
    let right = variable("LASTGOOD_TEST_S3_S3S_SECRET_ACCESS_KEY")?;
    fs::write(&file, "not-the-one-that-the-server-knows")?;
    lab.set(
        "AWS_ACCESS_KEY_ID",
        variable("LASTGOOD_TEST_S3_S3S_ACCESS_KEY_ID")?,
    );
    lab.set("AWS_SECRET_ACCESS_KEY_FILE", file.display().to_string());
    let _consumer = lab.consumer("consumer", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    let failed = lab
        .becomes(run, "an attempt fails", |row| row.error.is_some())
        .await?;
    let why = failed.error.unwrap_or_default();
    ensure!(why.contains("correct AWS_SECRET_ACCESS_KEY"), "{why}");
    fs::write(&file, right)?;
    eventually(PATIENCE, "a backup succeeds", async || {
        let run = lab.enqueue_backup("shop").await?;
        Ok(lab.ends(run).await?.state == RunState::Succeeded)
    })
    .await
}
