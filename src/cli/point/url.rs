//! `lastgood point url ID --ttl 15m`: an address from which anyone who has it can fetch an archive. Recorded before it is made.

use std::time::Duration;

use anyhow::Context as _;
use lastgood_jobs::sought::Sought;
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::super::locate::locate;
use crate::{
    catalog::{Audit, Catalog},
    cli::output::Output,
    stores::{Absent, StorageArgs, Stores},
};

/// The longest validity of a version 4 signature.
const LONGEST: Duration = Duration::from_hours(24 * 7);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The restore point
    id: Uuid,
    /// How long the address is valid, at most a week
    #[arg(long, default_value = "15m", value_name = "TIME", value_parser = ttl)]
    ttl: Duration,
    #[command(flatten)]
    storage: StorageArgs,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=LONGEST).contains(&ttl) {
        Ok(ttl)
    } else {
        Err("give at least a second and at most a week, e.g. 15m".to_owned())
    }
}

pub(super) async fn run(catalog: &Catalog, args: &Args, output: &Output) -> anyhow::Result<()> {
    let point = catalog.point(args.id).await?;
    let stores = Stores::open(&args.storage, &Absent::LeftOut).await?;
    let recorded = point.recorded()?;
    let sought = Sought {
        manifest_key: &point.manifest_key,
        recorded: Some(&recorded),
    };
    let (store, manifest) = locate(&sought, &stores).await?.swap_remove(0);
    let seconds = args.ttl.as_secs();
    let entry = Audit {
        action: "url",
        resource_id: Some(&point.resource_id),
        point_id: Some(point.id),
        detail: serde_json::json!({ "store": store.name, "seconds": seconds }),
    };
    catalog.audit(&entry).await?;
    let archive = &manifest.archive;
    let url = store.storage.presign(&archive.key, args.ttl).await?;
    let url = url.with_context(|| {
        format!(
            "store {} is a directory, which cannot sign addresses: use `lastgood point download {} --to FILE`",
            store.name, point.id
        )
    })?;
    // The secret address is the answer itself: it goes to the caller and to no log.
    let answer = serde_json::json!({
        "point": point.id,
        "url": url.expose_secret(),
        "ttl_seconds": seconds,
        "stored_bytes": archive.size_bytes,
        "blake3": archive.blake3,
    });
    output.note(&format!(
        "anybody with this address can fetch the archive of {} for {seconds} s; its BLAKE3 is {}",
        manifest.resource_id, archive.blake3
    ));
    output.show(&answer, |_| url.expose_secret().to_owned())
}
