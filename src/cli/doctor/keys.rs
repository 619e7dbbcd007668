//! Is the master key here the one that seals the catalog, and does it open what is sealed?

use anyhow::{Context as _, bail};

use super::{super::output::counted, round::read};
use crate::{
    catalog::{Catalog, UnopenedUrl},
    config, master,
};

/// How many resources whose URL does not open are named.
const NAMED: i64 = 20;

/// Compares the master key here with the catalog's, names the resources whose URL was sealed under another, and opens a few URLs.
pub(super) async fn keys(catalog: &Catalog) -> anyhow::Result<String> {
    let known = catalog.master_keys().await?;
    let all: Vec<i32> = known.iter().map(|row| row.number).collect();
    let Some(keys) = read(config::master_keys).await?? else {
        let (first, _) = catalog.urls_sealed_under(&all, 1).await?;
        return match first.first() {
            None => Ok("no master key, and no URL is sealed".to_owned()),
            Some(first) => bail!(
                "the URL of {} is sealed, but LASTGOOD_MASTER_KEY is not set here",
                first.resource
            ),
        };
    };
    let held = master::check(catalog, &keys).await?;
    let here = held.numbers();
    let others: Vec<i32> = all.into_iter().filter(|it| !here.contains(it)).collect();
    let (unopened, in_all) = catalog.urls_sealed_under(&others, NAMED).await?;
    if let Some(first) = unopened.first() {
        bail!(
            "{} sealed under a master key that is not here: {}; set a URL again with `lastgood resource set {} --url-stdin`",
            counted(in_all, "URL"),
            named(&unopened),
            first.resource
        );
    }
    let sealed = catalog.some_sealed(&here).await?;
    for (id, sealed) in &sealed {
        keys.open(id, sealed).with_context(|| {
            format!("cannot open the URL of {id}: set it again with `lastgood resource set {id} --url-stdin`")
        })?;
    }
    let tried = match sealed.first() {
        None => "and no URL is sealed".to_owned(),
        Some((first, _)) => format!("and opens the sealed URL of {first}"),
    };
    if held.current == Some(held.sealing) {
        let left = master::others(catalog, held.sealing).await?;
        let still = if left.is_empty() {
            ""
        } else {
            "; some secrets are still sealed under the previous one: run `lastgood key rotate-master`"
        };
        return Ok(format!(
            "the master key is number {}, which seals this catalog, {tried}{still}",
            held.sealing
        ));
    }
    Ok(format!(
        "the previous master key is number {}, which seals this catalog, {tried}; `lastgood key rotate-master` switches to the next one",
        held.sealing
    ))
}

fn named(urls: &[UnopenedUrl]) -> String {
    let named: Vec<_> = urls
        .iter()
        .map(|it| format!("{} (master key {})", it.resource, it.sealed_under))
        .collect();
    named.join(", ")
}
