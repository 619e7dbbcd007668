//! Half-sent requests for metrics, and references to files that never answer, stop nothing else.

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

/// More than the metrics' listener accepts, and far more than a service has open by itself.
const HALF_SENT: usize = 300;
const TAKEN_AT_MOST: usize = 64;

fn open_files(service: &Service) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", service.pid()))?.count())
}

/// Whoever can reach the metrics port must not use up the files that backups need.
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
        // This request waits behind the others and gets its turn.
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
        // The pool of connections to the catalog may have grown in the meantime.
        ensure!(
            most <= before + TAKEN_AT_MOST + 40,
            "{before} files, then {most}"
        );
    }
    Ok(())
}

/// A read that blocks must not stop the consumer, and neither must the next one.
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
