//! `lastgood backup download ID --to FILE`: a customer's data leaves the store, which is recorded before it does.

use std::path::{Path, PathBuf};

use lastgood_jobs::{download::download, escrow, manifest::Manifest, resource::Engine};
use uuid::Uuid;

use super::super::locate::locate;
use crate::{
    catalog::{Audit, Catalog},
    cli::output::Output,
    stores::{Absent, StorageArgs, Stores},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The restore point
    id: Uuid,
    /// The file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(super) async fn run(catalog: &Catalog, args: &Args, output: &Output) -> anyhow::Result<()> {
    let point = catalog.point(args.id).await?;
    let stores = Stores::open(&args.storage, &Absent::Refused).await?;
    let (store, _) = locate(&point.manifest_key, &stores).await?;
    let entry = Audit {
        action: "download",
        resource_id: Some(&point.resource_id),
        point_id: Some(point.id),
        detail: serde_json::json!({ "store": store.name, "to": args.to.display().to_string() }),
    };
    catalog.audit(&entry).await?;
    let manifest = download(&point.manifest_key, &args.to, &store.storage)
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    let answer = serde_json::json!({
        "point": point.id,
        "file": args.to,
        "size_bytes": manifest.archive.size_bytes,
        "blake3": manifest.archive.blake3,
        "by_hand": by_hand(&manifest, &args.to),
    });
    output.show(&answer, |_| {
        format!(
            "{} is the archive of {} as of {}, and its BLAKE3 is right. By hand:\n  {}",
            args.to.display(),
            manifest.resource_id,
            manifest.consistent_at.to_rfc3339(),
            by_hand(&manifest, &args.to).join("\n  ")
        )
    })
}

/// Returns the commands that bring the data back without lastgood.
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
            commands.push(format!("{plain} | mongorestore --archive --uri \"$URL\""));
        }
        Engine::Redis => commands.push(format!(
            "{plain} > dump.rdb   # into the `dir` of a server that is down; then start it"
        )),
    }
    commands
}

/// Quotes a file's name for whoever pastes it into a shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
