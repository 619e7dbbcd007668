//! `lastgood key rotate-master`: seals everything anew under the next master key.

use std::process::ExitCode;

use anyhow::{bail, ensure};
use serde::Serialize;
use serde_json::json;

use super::escrow::master_keys;
use crate::{
    catalog::{Audit, Catalog, SealedCount},
    cli::output::{Output, counted, printable},
    master::{self, Held, Named, Resealed, Sealer},
};

/// What was done, and whether the previous key is still needed.
#[derive(Serialize)]
struct Report {
    /// The number of the sealing key.
    master_key: i32,
    /// The number of the key that it replaced in this run.
    replaced: Option<i32>,
    /// The number of `LASTGOOD_PREVIOUS_MASTER_KEY`, if the catalog knows it.
    previous: Option<i32>,
    /// Whether another key is still needed.
    is_previous_needed: bool,
    #[serde(flatten)]
    done: Resealed,
}

/// Makes `LASTGOOD_MASTER_KEY` the sealing key in place of `LASTGOOD_PREVIOUS_MASTER_KEY`, if it is not already, and reseals everything
/// under it. Can be interrupted at any time and run again.
pub(super) async fn rotate_master(catalog: &Catalog, output: &Output) -> anyhow::Result<ExitCode> {
    let keys = master_keys()?;
    let held = master::hold(catalog, &keys).await?;
    let Some(number) = held.current else {
        bail!("LASTGOOD_MASTER_KEY could not be recorded: run this again");
    };
    begin(catalog, &held, number).await?;
    let to = Sealer {
        number,
        key: keys.current(),
    };
    let done = master::reseal(catalog, &keys, &to).await?;
    let report = Report {
        master_key: number,
        replaced: (held.sealing != number).then_some(held.sealing),
        previous: held.previous,
        is_previous_needed: !done.needs_no_other(),
        done,
    };
    output.show(&report, text)?;
    Ok(if report.done.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Seals new secrets under the key `number` from here on. Every consumer must have it first, or its jobs would fail.
async fn begin(catalog: &Catalog, held: &Held, number: i32) -> anyhow::Result<()> {
    let entry = Audit::new(
        "rotate_master_key",
        json!({ "from": held.sealing, "to": number }),
    );
    if held.sealing == number {
        return Ok(catalog.audit(&entry).await?);
    }
    ensure!(
        number > held.sealing,
        "LASTGOOD_MASTER_KEY is master key {number}, which master key {} has replaced: swap the two variables; a replaced key never seals \
         again",
        held.sealing
    );
    let lacking = catalog.consumers_without_master_key(number).await?;
    ensure!(
        lacking.is_empty(),
        "nothing was changed: {} without the new master key: restart them with it as LASTGOOD_MASTER_KEY and the \
         old one as LASTGOOD_PREVIOUS_MASTER_KEY, and `lastgood api` too: {}",
        counted(lacking.len(), "live consumer"),
        lacking.join(", ")
    );
    ensure!(
        catalog.let_seal(held.sealing, number, &entry).await?,
        "another rotation came first: run this again"
    );
    Ok(())
}

fn text(report: &Report) -> String {
    let Report {
        master_key, done, ..
    } = report;
    let mut lines = Vec::new();
    if let Some(replaced) = report.replaced {
        lines.push(format!(
            "master key {master_key} seals from now on, in place of master key {replaced}"
        ));
    }
    lines.push(format!(
        "resealed under master key {master_key}: {}, {}",
        counted(done.urls, "URL"),
        counted(done.keys, "archive key")
    ));
    if done.signing_keys > 0 {
        lines.push("and the signing key".to_owned());
    }
    lines.extend(left(&done.unopened_urls, |id| {
        format!("no key here opens the URL of {id}: set it again with `lastgood resource set {id} --url-stdin`")
    }));
    lines.extend(left(&done.unopened_keys, |id| {
        format!(
            "no key here opens the secret of archive key {id}: see `lastgood key reseal --help`"
        )
    }));
    lines.extend(left(&done.unopened_signing_keys, |id| {
        format!("no key here opens signing key {id}: make the next one with `lastgood key rotate --signing`")
    }));
    lines.extend(left(&done.refused, |why| {
        format!("the catalog refuses to change {why}")
    }));
    if done.of_removed > 0 {
        lines.push(format!(
            "not needed: {} of removed resources that no key here opens",
            counted(done.of_removed, "URL")
        ));
    }
    lines.push(verdict(report));
    lines.join("\n")
}

/// Names the first of those that are left, and counts the rest.
fn left<'a>(
    named: &'a Named,
    tell: impl Fn(&str) -> String + 'a,
) -> impl Iterator<Item = String> + 'a {
    let more = named.all - named.first.len() as u64;
    let more = (more > 0).then(|| format!("LEFT: and {more} more like the last one"));
    let told = named.first.iter();
    told.map(move |name| format!("LEFT: {}", tell(&printable(name))))
        .chain(more)
}

fn verdict(report: &Report) -> String {
    if !report.is_previous_needed {
        return "nothing is sealed under another master key any more: LASTGOOD_PREVIOUS_MASTER_KEY may be removed everywhere; keep the \
                old key itself for as long as you keep backups of the catalog"
            .to_owned();
    }
    let counts: Vec<_> = report.done.others.iter().map(under).collect();
    let kept_by = if counts.is_empty() {
        "the secrets that the catalog refuses to change need it".to_owned()
    } else {
        format!(
            "some secrets are still sealed under another key: {}",
            counts.join("; ")
        )
    };
    format!(
        "KEEP LASTGOOD_PREVIOUS_MASTER_KEY: {kept_by}; resolve the LEFT lines and run this again"
    )
}

fn under(count: &SealedCount) -> String {
    let and_signing = if count.signing_keys > 0 {
        " and the signing key"
    } else {
        ""
    };
    format!(
        "under master key {}, {} and {}{and_signing}",
        count.master_key,
        counted(count.urls, "URL"),
        counted(count.keys, "archive key")
    )
}
