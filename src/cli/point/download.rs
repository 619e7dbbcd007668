//! `lastgood point download ID --to FILE`: fetches an archive. It lets a customer's data out, which is recorded first.

use std::path::{Path, PathBuf};

use lastgood_jobs::{
    download::download,
    escrow,
    manifest::{Details, Manifest},
    resource::Engine,
    sought::Sought,
};
use uuid::Uuid;

use super::super::{
    locate::{fault, locate},
    stop_on_signal,
};
use crate::{
    catalog::{Audit, Catalog, PointRow},
    cli::output::Output,
    stores::{Absent, NamedStore, StorageArgs, Stores},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The restore point
    id: Uuid,
    /// The file, which must not exist yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(super) async fn run(catalog: &Catalog, args: &Args, output: &Output) -> anyhow::Result<()> {
    let point = catalog.point(args.id).await?;
    let stores = Stores::open(&args.storage, &Absent::LeftOut).await?;
    let recorded = point.recorded()?;
    let sought = Sought {
        manifest_key: &point.manifest_key,
        recorded: Some(&recorded),
    };
    let stores = locate(&sought, &stores).await?;
    let stop = stop_on_signal()?.drain;
    let manifest = tokio::select! {
        fetched = fetch(catalog, &point, &sought, &stores, &args.to) => fetched?,
        // Dropping the future removes what has arrived so far.
        () = stop.cancelled() => anyhow::bail!("interrupted: nothing was kept; download again"),
    };
    let answer = serde_json::json!({
        "point": point.id,
        "file": args.to,
        "stored_bytes": manifest.archive.size_bytes,
        "blake3": manifest.archive.blake3,
        "by_hand": by_hand(&manifest, &args.to),
    });
    output.show(&answer, |_| {
        format!(
            "{} is the archive of {} as of {}, and its BLAKE3 matches. To restore it by hand:\n  {}",
            args.to.display(),
            manifest.resource_id,
            manifest.consistent_at.to_rfc3339(),
            by_hand(&manifest, &args.to).join("\n  ")
        )
    })
}

/// Fetches the archive from the first store that has it intact.
async fn fetch(
    catalog: &Catalog,
    point: &PointRow,
    sought: &Sought<'_>,
    stores: &[(NamedStore, Manifest)],
    to: &Path,
) -> anyhow::Result<Manifest> {
    let mut faults = Vec::new();
    for (store, _) in stores {
        let entry = Audit {
            action: "download",
            resource_id: Some(&point.resource_id),
            point_id: Some(point.id),
            detail: serde_json::json!({ "store": store.name, "to": to.display().to_string() }),
        };
        catalog.audit(&entry).await?;
        match download(sought, to, &store.storage).await {
            Ok(manifest) => return Ok(manifest),
            Err(error) if error.is_of_the_store() => {
                let why = error.report();
                tracing::warn!(
                    store = store.name,
                    error = why,
                    "the archive cannot be fetched from this store"
                );
                faults.push(fault(store, &error));
            }
            Err(error) => anyhow::bail!(error.report()),
        }
    }
    anyhow::bail!(faults.join("; "))
}

/// Returns the commands that restore the data without lastgood.
fn by_hand(manifest: &Manifest, file: &Path) -> Vec<String> {
    let file = shell_word(&file.display().to_string());
    let mut commands = vec![format!(
        "echo '{}  '{file} | b3sum --check",
        manifest.archive.blake3
    )];
    let plain = match &manifest.archive.encryption {
        None => format!("zstd -dc {file}"),
        Some(encryption) => {
            let escrow = escrow::object(encryption.key);
            commands.push(format!(
                "age -d -i recovery.txt {escrow} > key.txt   # the key's escrow, from the store"
            ));
            format!("age -d -i key.txt {file} | zstd -dc")
        }
    };
    match manifest.engine {
        Engine::Postgres | Engine::Vector => commands.push(format!(
            "{plain} | pg_restore --exit-on-error --single-transaction -d \"$URL\""
        )),
        Engine::Mongodb => {
            let replay = match manifest.details {
                Details::Mongodb {
                    oplog_entries: Some(_),
                    ..
                } => " --oplogReplay",
                Details::Mongodb { .. } | Details::Postgres { .. } | Details::Redis { .. } => "",
            };
            commands.push(format!(
                "{plain} | mongorestore --archive --bypassDocumentValidation{replay} --uri \"$URL\""
            ));
        }
        Engine::Redis => commands.push(format!(
            "{plain} > dump.rdb   # into the `dir` of a server that is down; then start it"
        )),
    }
    commands
}

/// Quotes a file name for pasting into a shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
