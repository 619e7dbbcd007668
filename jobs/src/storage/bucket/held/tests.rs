use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use futures::future::{BoxFuture, FutureExt as _};

use super::*;

/// Returns one set of keys after another. An empty name stands for a file that cannot be read.
#[derive(Debug)]
struct Rotated(std::sync::Mutex<VecDeque<&'static str>>);

impl ReadKeys for Rotated {
    fn read(&self) -> BoxFuture<'_, Result<Credentials, String>> {
        async {
            let next = self.0.lock().unwrap().pop_front();
            match next.unwrap_or_default() {
                "" => Err("no such file".to_owned()),
                name => Ok(keys(name)),
            }
        }
        .boxed()
    }
}

fn keys(name: &str) -> Credentials {
    Credentials {
        access_key_id: name.to_owned(),
        secret_access_key: "marker-of-a-secret".to_owned().into(),
        session_token: Some("marker-of-a-token".to_owned().into()),
    }
}

fn read(next: &[&'static str]) -> Result<HeldKeys> {
    let source = KeySource::Read {
        first: keys("first"),
        again: Arc::new(Rotated(std::sync::Mutex::new(
            next.iter().copied().collect(),
        ))),
    };
    Ok(HeldKeys::new("bucket", &source, "us-east-1")?)
}

async fn name_at(held: &HeldKeys, now: Instant) -> Result<String> {
    Ok(held.at(now).await?.access_key_id.clone())
}

#[tokio::test]
async fn keys_that_are_read_are_read_again_after_five_minutes_and_not_before() -> Result<()> {
    let held = read(&["second", "third"])?;
    let now = Instant::now();
    let after = |minutes| now + Duration::from_mins(minutes) + Duration::from_secs(1);
    assert_eq!(name_at(&held, after(4)).await?, "first");
    assert_eq!(name_at(&held, after(5)).await?, "second");
    assert_eq!(name_at(&held, after(9)).await?, "second");
    assert_eq!(name_at(&held, after(10)).await?, "third");
    Ok(())
}

#[tokio::test]
async fn keys_that_cannot_be_read_again_stay_in_use_and_are_tried_again_soon() -> Result<()> {
    let held = read(&["", "second"])?;
    let later = Instant::now() + Duration::from_mins(6);
    assert_eq!(name_at(&held, later).await?, "first");
    assert_eq!(
        name_at(&held, later + Duration::from_secs(1)).await?,
        "first"
    );
    assert_eq!(
        name_at(&held, later + Duration::from_secs(31)).await?,
        "second"
    );
    Ok(())
}

#[tokio::test]
async fn keys_that_are_refused_are_read_again_at_once() -> Result<()> {
    let held = read(&["second", "third"])?;
    let now = Instant::now();
    let first = held.at(now).await?;
    let other = held.other_at(&first, Refusal::OfTheRequest, now).await;
    assert_eq!(other.context("none")?.access_key_id, "second");
    // Another request that was signed with the first keys gets the ones that have already been read.
    let other = held.other_at(&first, Refusal::OfTheKeys, now).await;
    assert_eq!(other.context("none")?.access_key_id, "second");
    // A service that refuses everything does not cause the files to be read for every request.
    let second = held.at(now).await?;
    let soon = now + Duration::from_secs(1);
    assert!(
        held.other_at(&second, Refusal::OfTheKeys, soon)
            .await
            .is_none()
    );
    let later = now + Duration::from_secs(3);
    let other = held.other_at(&second, Refusal::OfTheKeys, later).await;
    assert_eq!(other.context("none")?.access_key_id, "third");
    Ok(())
}

#[tokio::test]
async fn keys_that_do_not_change_are_refused_for_good() -> Result<()> {
    for held in [
        read(&["first", "first"])?,
        HeldKeys::new("bucket", &keys("first").into(), "us-east-1")?,
    ] {
        let first = held.current().await?;
        assert!(held.other_than(&first, Refusal::OfTheKeys).await.is_none());
        assert_eq!(held.current().await?.access_key_id, "first");
    }
    Ok(())
}

#[test]
fn lent_keys_are_replaced_before_they_run_out() {
    let now = Instant::now();
    let held = |life: Duration| Held::new(signing(&keys("lent")), now, Some(life));
    let hour = held(Duration::from_hours(1));
    assert!(!hour.is_due(now + Duration::from_mins(54)));
    assert!(
        hour.is_due(now + Duration::from_mins(56))
            && !hour.has_ended(now + Duration::from_mins(56))
    );
    assert!(hour.has_ended(now + Duration::from_hours(1)));
    // Short-lived keys are replaced after half of their life.
    let short = held(Duration::from_mins(4));
    assert!(!short.is_due(now + Duration::from_mins(1)));
    assert!(short.is_due(now + Duration::from_mins(2)));
    assert!(held(Duration::ZERO).has_ended(now));
}

#[test]
fn what_holds_keys_shows_none() -> Result<()> {
    let shown = format!("{:?} {:?}", read(&[])?, KeySource::Fixed(keys("first")));
    assert!(!shown.contains("marker"), "{shown}");
    Ok(())
}

/// Regression test: no address could be signed while the source of the next keys was away.
#[tokio::test]
async fn keys_that_hold_sign_an_address_though_no_longer_ones_can_be_had() -> Result<()> {
    let held = read(&["", "second"])?;
    let end = Some(Instant::now() + Duration::from_mins(1));
    let first = held.held().context("no keys")?;
    held.hold(Held { end, ..first });
    for name in ["first", "second"] {
        let lasting = held.lasting(Duration::from_mins(10)).await?;
        assert_eq!(lasting.access_key_id, name);
    }
    Ok(())
}
