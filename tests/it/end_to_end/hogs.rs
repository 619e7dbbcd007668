//! Who must not stop what: half-sent requests to the metrics, and references to what never answers.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    customer::{Customer, Rights},
    faults::says_why,
    lab::{Lab, PATIENCE},
    program::Service,
};
use crate::eventually::within;

/// More than the metrics' listener takes, and far more than a service has open by itself.
const HALF_SENT: usize = 300;
const TAKEN_AT_MOST: usize = 64;

fn open_files(service: &Service) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", service.pid()))?.count())
}

/// Listeners without bounds: whoever reaches the port of the metrics must not use up the files that backups need.
#[tokio::test(flavor = "multi_thread")]
async fn half_sent_requests_for_metrics_take_few_files_and_no_turn_for_ever() -> Result<()> {
    let lab = Lab::create().await?;
    let services = [lab.producer()?, lab.consumer("consumer", &[]).await?];
    for service in &services {
        service.get("/metrics").await?;
        let before = open_files(service)?;
        let address = service.address().await?;
        let mut half_sent = Vec::new();
        for _ in 0..HALF_SENT {
            let mut stream = TcpStream::connect(&address).await?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX-").await?;
            half_sent.push(stream);
        }
        // It waits behind them, and gets its turn.
        let asking = service.get("/metrics");
        tokio::pin!(asking);
        let mut most = 0;
        let answer = loop {
            most = most.max(open_files(service)?);
            tokio::select! {
                answer = &mut asking => break answer?,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        };
        ensure!(answer.contains("200 OK"), "{answer}");
        // The pool of connections to the catalog may have grown meanwhile.
        ensure!(
            most <= before + TAKEN_AT_MOST + 40,
            "{before} files, then {most}"
        );
    }
    Ok(())
}

/// Blocking calls on the runtime: what a reference names must not stop the consumer, nor the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_a_pipe_fails_its_run_and_stops_nobody() -> Result<()> {
    let (lab, customer) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    customer.run("create table t (n int)").await?;
    let pipe = lab.home.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status()?;
    ensure!(made.success());
    let reference = format!("file:{}", pipe.display());
    let args = [
        "resource",
        "add",
        "trap",
        "--team",
        "evil",
        "--tier",
        "free",
        "--engine",
        "vector",
        "--connection",
        &reference,
    ];
    lab.run(&args).await?.succeeded()?;
    lab.add("shop", &customer).await?;
    let traps = [
        lab.enqueue_single_attempt("vector", "trap").await?,
        lab.enqueue_single_attempt("vector", "trap").await?,
    ];
    let good = lab.enqueue_backup("shop").await?;
    let consumer = lab.consumer("consumer", &["--slots", "2"]).await?;
    lab.succeeds(good).await?;
    for trap in traps {
        says_why(
            &lab,
            &lab.ends(trap).await?,
            "config",
            "is not a regular file",
        )
        .await?;
    }
    within(PATIENCE, "it still answers", consumer.get("/readyz")).await??;
    Ok(())
}
