//! What is wrong with the stores?

use crate::{
    catalog::{MissingCopies, StoreListing, StoreOnRecord},
    cli::output::{instant, printable},
};

/// Reports a store that holds restore points and is not configured.
pub(super) fn not_configured(unknown: &StoreOnRecord) -> String {
    format!(
        "UNKNOWN STORE: {} restore points are on record in {}, which is not configured here: their removals wait; see \
         `lastgood store --help`",
        unknown.points,
        printable(&unknown.store)
    )
}

/// Reports restore points that a store lacks.
pub(super) fn not_copied(missing: &MissingCopies) -> Option<String> {
    let MissingCopies {
        store,
        points,
        failed,
    } = missing;
    (*points > 0).then(|| {
        format!(
            "NOT COPIED: store {store} lacks {points} restore points; {failed} copies failed and are tried again: `lastgood run list --state failed`"
        )
    })
}

/// Reports a store that was emptied or cannot be listed.
pub(super) fn not_there(listing: &StoreListing) -> Option<String> {
    if let (Some(since), Some(because)) = (listing.failed_at, &listing.failed_because) {
        return Some(format!(
            "STORE NOT LISTED: it is unknown whether the restore points in {} are still there, since {}: {}",
            listing.store,
            instant(since),
            printable(because)
        ));
    }
    listing.vanished_at.map(|since| {
        format!(
            "STORE EMPTIED: {} of {} restore points in {} are gone, since {}: nothing expires until that is settled; see \
             docs/how-to/emptied-store.md",
            listing.missing - listing.accepted,
            listing.points,
            listing.store,
            instant(since)
        )
    })
}
