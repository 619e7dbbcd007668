//! Ceph's gateway is used like any bucket. Where it keeps versions, it overwrites, and is used only if that is accepted.

use anyhow::{Result, ensure};

use super::{
    customer::{Customer, Rights},
    faults::skipped,
    lab::Lab,
};
use crate::variable;

/// Creates a lab whose only store is a bucket of the gateway, and a customer in it. If this machine has no gateway,
/// reports the skip and returns `None`.
async fn lab_in(bucket: &str) -> Result<Option<(Lab, Customer)>> {
    let endpoint = variable("LASTGOOD_TEST_S3_RGW_URL")?;
    if let Some(why) = endpoint.strip_prefix("skip: ") {
        skipped(&format!("Ceph's gateway: {why}"));
        return Ok(None);
    }
    let mut lab = Lab::create().await?;
    let url = format!("s3://{}/{}", variable(bucket)?, uuid::Uuid::new_v4());
    lab.set("LASTGOOD_STORAGE", url);
    lab.set("AWS_ENDPOINT_URL_S3", endpoint);
    for name in ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY"] {
        let value = variable(&format!("LASTGOOD_TEST_S3_RGW_{name}"))?;
        lab.set(&format!("AWS_{name}"), value);
    }
    let shop = Customer::create(Rights::Owner).await?;
    shop.run("create table items as select n from generate_series(1, 100) n")
        .await?;
    lab.add("shop", &shop).await?;
    Ok(Some((lab, shop)))
}

/// Makes a restore point in the store, and reads it back.
async fn holds_a_point(lab: &Lab) -> Result<()> {
    let _consumer = lab.consumer("consumer", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    lab.succeeds(run).await?;
    let verify = ["verify", "--point", &run.to_string(), "--wait"];
    lab.run(&verify).await?.succeeded()?;
    Ok(())
}

#[tokio::test]
async fn an_ordinary_bucket_of_ceph_writes_once_and_holds_backups() -> Result<()> {
    let Some((lab, _shop)) = lab_in("LASTGOOD_TEST_S3_BUCKET").await? else {
        return Ok(());
    };
    holds_a_point(&lab).await?;
    let doctor = lab.run(&["doctor", "--within", "1m"]).await?.out;
    ensure!(doctor.contains("ok   store         primary"), "{doctor}");
    let status = lab.run(&["status"]).await?.succeeded()?.out;
    ensure!(!status.contains("NOT WRITE-ONCE"), "{status}");
    Ok(())
}

/// Ceph 16 ignores the condition there. Later versions were not tried.
#[tokio::test]
async fn a_bucket_of_ceph_with_versions_is_refused_until_its_overwriting_is_accepted() -> Result<()>
{
    let bucket = "LASTGOOD_TEST_S3_VERSIONED_BUCKET";
    let Some((mut lab, _shop)) = lab_in(bucket).await? else {
        return Ok(());
    };
    let refused = lab.run(&["consumer"]).await?.refused()?;
    ensure!(refused.contains("LASTGOOD_S3_WRITE_ONCE"), "{refused}");
    let doctor = lab.run(&["doctor", "--within", "1m"]).await?.out;
    ensure!(
        doctor.contains("FAIL store         primary") && doctor.contains("it overwrites objects"),
        "{doctor}"
    );

    lab.set("LASTGOOD_S3_WRITE_ONCE", "false");
    holds_a_point(&lab).await?;
    let status = lab.run(&["status"]).await?.succeeded()?.out;
    ensure!(status.contains("NOT WRITE-ONCE: store primary"), "{status}");
    Ok(())
}
