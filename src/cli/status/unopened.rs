//! Which resources can no consumer reach, because no one has the master key that their URL was sealed under?

use super::Status;

/// Returns a line for each of them, saying what to do about it.
pub(super) fn told(status: &Status) -> Vec<String> {
    let urls = &status.unopened_urls;
    let mut told: Vec<_> = urls
        .iter()
        .map(|it| {
            format!(
                "DOES NOT OPEN: the URL of {} was sealed under master key {}, which nobody has, so it is not backed up: set it again with \
                 `lastgood resource set {} --url-stdin`",
                it.resource, it.sealed_under, it.resource
            )
        })
        .collect();
    let more = status.unopened_urls_in_all - i64::try_from(urls.len()).unwrap_or(0);
    if more > 0 {
        told.push(format!("DOES NOT OPEN: and {more} more URLs"));
    }
    told
}
