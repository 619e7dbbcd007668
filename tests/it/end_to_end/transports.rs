//! A connection without proof of identity is named, and refused if the installation requires proof.

use anyhow::{Result, ensure};
use lastgood::run::RunState;

use super::{
    customer::{Customer, Rights},
    faults::says_why,
    lab::Lab,
};

#[tokio::test]
async fn who_is_reached_without_proof_is_named_and_can_be_refused() -> Result<()> {
    let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run("create table items as select 1 as n").await?;
    lab.add("near", &shop).await?;
    // The same machine under a name that does not look local.
    lab.add_url("far", "free", &shop.url().replace("127.0.0.1", "127.1"))
        .await?;
    let consumer = lab.consumer("first", &[]).await?;
    let (near, far) = (
        lab.enqueue_backup("near").await?,
        lab.enqueue_backup("far").await?,
    );
    lab.succeeds(near).await?;
    lab.succeeds(far).await?;
    drop(consumer);

    let status = lab.run(&["status"]).await?.succeeded()?.out;
    let told = "UNVERIFIED TRANSPORT: 1 resources are reached without proof of their servers' identity (far)";
    ensure!(status.contains(told), "{status}");
    let doctor = lab.run(&["doctor"]).await?.out;
    let named = "ok   transport     1 resources are reached without proof of their servers' identity: far (the other end decides whether TLS is used";
    ensure!(doctor.contains(named), "{doctor}");

    lab.set("LASTGOOD_REQUIRE_VERIFIED_TLS", "true");
    let doctor = lab.run(&["doctor"]).await?;
    ensure!(doctor.code == Some(1), "{doctor:?}");
    ensure!(doctor.out.contains("FAIL transport"), "{doctor:?}");
    let strict = lab.consumer("strict", &[]).await?;
    let again = lab.enqueue_backup("near").await?;
    lab.succeeds(again).await?;
    let refused = lab.enqueue_backup("far").await?;
    let row = lab.ends(refused).await?;
    // Only one attempt: trying again would change nothing.
    ensure!(row.state == RunState::Failed && row.attempt == 1, "{row:?}");
    says_why(&lab, &row, "config", "prove who it is").await?;
    drop(strict);
    Ok(())
}
