//! Why a dump is not of one instant, in the words of its manifest.

use std::collections::BTreeSet;

use crate::manifest::Consistency;

/// How many namespaces a warning names.
const NAMES_SHOWN: usize = 5;

/// Everything that keeps a dump from being of one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Doubts {
    /// Why the server reads no snapshots, if it does not.
    pub(super) no_snapshots: Option<String>,
    /// Namespaces that were read outside the snapshot.
    pub(super) outside: Vec<String>,
    /// Namespaces that the server showed as of another instant than asked.
    pub(super) elsewhen: Vec<String>,
    /// Namespaces whose options or indexes changed while the snapshot was taken.
    pub(super) unsettled: Vec<String>,
    /// Namespaces whose options or indexes changed while a dump without a snapshot ran.
    pub(super) changed: Vec<String>,
    /// Namespaces that were dropped or renamed before they were read to the end.
    pub(super) cut: Vec<String>,
}

impl Doubts {
    /// Returns the consistency of the whole dump.
    ///
    /// It is of one instant, except for the [`exceptions`](Self::exceptions), as long as at least one of its
    /// collections is. Exceptions that are not among `collections`, because they existed only before or after, do not
    /// count.
    pub(super) fn consistency(&self, collections: &[String]) -> Consistency {
        let exceptions = self.exceptions();
        let holds = exceptions.is_empty() || collections.iter().any(|it| !exceptions.contains(it));
        if self.no_snapshots.is_none() && holds {
            Consistency::Snapshot
        } else {
            Consistency::None
        }
    }

    /// Returns the collections that may not be of the same instant as the others; empty if there is no such instant.
    pub(super) fn exceptions(&self) -> Vec<String> {
        if self.no_snapshots.is_some() {
            return Vec::new();
        }
        let all = [&self.outside, &self.elsewhen, &self.unsettled, &self.cut];
        let names: BTreeSet<_> = all.into_iter().flatten().cloned().collect();
        names.into_iter().collect()
    }

    /// Returns what happened, and what to do about it.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = &self.no_snapshots {
            warnings.push(format!(
                "the collections were read one after another, and clients may have written meanwhile: {why}"
            ));
        }
        let mut about = |namespaces: &[String], what: &str| {
            if !namespaces.is_empty() {
                warnings.push(format!("{}: {what}", shown(namespaces)));
            }
        };
        about(
            &self.outside,
            "read a little later than the rest, because the server offers no snapshot of it; a capped collection never has \
             one",
        );
        about(
            &self.elsewhen,
            "read as of another instant than the rest: the server ignored the one that lastgood asked for",
        );
        about(
            &self.unsettled,
            "its options or indexes changed as the snapshot was taken, and may be older or newer than the documents",
        );
        about(
            &self.changed,
            "created or dropped, or its options or indexes changed, while the dump ran: compare it after a restore",
        );
        about(
            &self.cut,
            "dropped, renamed or created again while it was read: the backup may have only part of it, or nothing",
        );
        warnings
    }
}

fn shown(names: &[String]) -> String {
    let first: Vec<&str> = names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_doubt_it_is_a_snapshot() {
        let one = ["shop.orders".to_owned()];
        assert_eq!(Doubts::default().consistency(&one), Consistency::Snapshot);
        assert_eq!(Doubts::default().consistency(&[]), Consistency::Snapshot);
        assert!(Doubts::default().warnings().is_empty());
    }

    #[test]
    fn a_collection_that_is_not_in_the_dump_takes_nothing_from_one_that_is() {
        let doubts = Doubts {
            unsettled: vec!["shop.anew".to_owned(), "shop.out".to_owned()],
            ..Doubts::default()
        };
        let collections = ["shop.source".to_owned(), "shop.out".to_owned()];
        assert_eq!(doubts.consistency(&collections), Consistency::Snapshot);
    }

    #[test]
    fn any_doubt_is_told_by_name() {
        let doubts = Doubts {
            outside: (1..=7).map(|n| format!("shop.log{n}")).collect(),
            ..Doubts::default()
        };
        let mut collections = doubts.outside.clone();
        assert_eq!(doubts.consistency(&collections), Consistency::None);
        collections.push("shop.orders".to_owned());
        assert_eq!(doubts.consistency(&collections), Consistency::Snapshot);
        assert_eq!(doubts.exceptions().len(), 7);
        let [warning] = &doubts.warnings()[..] else {
            panic!("one doubt, one warning");
        };
        assert!(
            warning
                .starts_with("shop.log1, shop.log2, shop.log3, shop.log4, shop.log5 and 2 more: ")
        );
    }
}
