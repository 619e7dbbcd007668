//! One oplog entry: what it changes, and in which collection.

use bson::{
    Bson, Document, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, Timestamp, raw::RawBsonRef,
    spec::BinarySubtype,
};
use uuid::Uuid;

use super::{Unreplayable, broken, check};

/// The prefix of the collection that holds the buckets of a time series.
const BUCKETS: &str = "system.buckets.";
/// Commands that by themselves change nothing that is backed up: other entries carry the changes they start or end.
const WITHOUT_EFFECT: [&str; 4] = [
    "startIndexBuild",
    "abortIndexBuild",
    "dropDatabase",
    "dbCheck",
];

/// The collection that a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) database: String,
    /// As the server has it: `system.buckets.NAME` for a time series.
    pub(crate) collection: String,
    /// Tells a collection from a later one of the same name.
    pub(crate) uuid: Option<Uuid>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// A document in its new state, whatever was there under its `_id`.
    Put(Place, RawBson, RawDocumentBuf),
    /// A change within a document.
    Update(Place, RawBson, RawDocumentBuf),
    Remove(Place, RawBson),
    /// A new collection with its options.
    Create(Place, Document),
    Drop(Place),
    Rename {
        from: Place,
        /// The new name.
        database: String,
        collection: String,
        is_temporary: bool,
        /// The collection that had the new name until then.
        replaces: Option<Uuid>,
    },
    AddIndexes(Place, Vec<Document>),
    RemoveIndex(Place, Bson),
    /// Changed options of the collection or of an index.
    Modify(Place, Document),
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry {
    /// Nothing that is backed up.
    Nothing,
    Done(Vec<Change>),
    /// Changes of a transaction that has not ended yet.
    Part {
        transaction: Vec<u8>,
        changes: Vec<Change>,
    },
    /// The end of a transaction.
    Last {
        transaction: Vec<u8>,
        changes: Vec<Change>,
    },
    Aborted {
        transaction: Vec<u8>,
    },
}

/// Which collections to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// One database; `None` for all but the server's own.
    pub(crate) database: Option<&'a str>,
}

impl Wanted<'_> {
    fn is_wanted_database(&self, database: &str) -> bool {
        match self.database {
            Some(wanted) => database == wanted,
            None => {
                !database.is_empty()
                    && !["config", "local"].contains(&database)
                    && !database.starts_with("__mdb_internal")
            }
        }
    }

    fn is_wanted(&self, database: &str, collection: &str) -> bool {
        let is_own = collection.starts_with("system.")
            && !["system.js", "system.views"].contains(&collection)
            && !collection.starts_with(BUCKETS);
        self.is_wanted_database(database) && !is_own && !collection.is_empty()
    }
}

/// Returns the part of a raw entry that belongs in the archive: all of it unchanged, some of its operations, or
/// nothing.
///
/// A transaction may also have touched databases that are not in the backup.
pub(crate) fn keep(
    raw: &RawDocument,
    wanted: Wanted<'_>,
) -> Result<Option<RawDocumentBuf>, Unreplayable> {
    if let Some(operations) = apply_ops(raw) {
        let mut kept = RawArrayBuf::new();
        let (mut all, mut some) = (0, 0);
        for operation in operations {
            all += 1;
            if let RawBsonRef::Document(operation) = operation.map_err(broken)?
                && is_wanted(operation, wanted)?
            {
                some += 1;
                kept.push(operation);
            }
        }
        if some == all && all > 0 {
            return Ok(Some(raw.to_owned()));
        }
        if some == 0 && transaction(raw).is_none() {
            return Ok(None);
        }
        return rewritten(raw, &kept).map(Some);
    }
    let is_end = is_command(raw)
        && command(raw)
            .is_some_and(|(name, _)| name == "commitTransaction" || name == "abortTransaction");
    let keep = is_end || is_wanted(raw, wanted)?;
    Ok(keep.then(|| raw.to_owned()))
}

/// Returns the entry with its operations replaced by these.
fn rewritten(raw: &RawDocument, operations: &RawArrayBuf) -> Result<RawDocumentBuf, Unreplayable> {
    let mut out = RawDocumentBuf::new();
    for field in raw {
        let (name, value) = field.map_err(broken)?;
        match (name.as_str(), value) {
            ("o", RawBsonRef::Document(command)) => {
                let mut new = RawDocumentBuf::new();
                for field in command {
                    let (name, value) = field.map_err(broken)?;
                    if name.as_str() == "applyOps" {
                        new.append(name, operations.clone());
                    } else {
                        new.append(name, value);
                    }
                }
                out.append(name, new);
            }
            _ => out.append(name, value),
        }
    }
    Ok(out)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "BSON has two dozen types, and a collection is named by one of them"
)]
fn is_wanted(raw: &RawDocument, wanted: Wanted<'_>) -> Result<bool, Unreplayable> {
    let kind = raw.get_str("op").map_err(broken)?;
    if kind == "n" {
        return Ok(false);
    }
    let namespace = raw.get_str("ns").map_err(broken)?;
    let Some((database, collection)) = namespace.split_once('.') else {
        return Ok(false);
    };
    if kind != "c" {
        return Ok(wanted.is_wanted(database, collection));
    }
    let Some((name, object)) = command(raw) else {
        return Ok(false);
    };
    if !wanted.is_wanted_database(database) {
        return Ok(false);
    }
    Ok(match object {
        RawBsonRef::String(from) if name == "renameCollection" => {
            let (database, collection) = from.split_once('.').unwrap_or((from, ""));
            wanted.is_wanted(database, collection)
        }
        RawBsonRef::String(collection) => wanted.is_wanted(database, collection),
        _ => false,
    })
}

fn is_command(raw: &RawDocument) -> bool {
    raw.get_str("op").is_ok_and(|it| it == "c")
}

/// Returns a command's name and its object.
fn command(raw: &RawDocument) -> Option<(&str, RawBsonRef<'_>)> {
    let (name, object) = raw.get_document("o").ok()?.iter().next()?.ok()?;
    Some((name.as_str(), object))
}

fn apply_ops(raw: &RawDocument) -> Option<&bson::RawArray> {
    if !is_command(raw) {
        return None;
    }
    raw.get_document("o").ok()?.get_array("applyOps").ok()
}

/// Returns what identifies the transaction of an entry.
///
/// Retryable writes of several documents look alike, but take effect at once.
fn transaction(raw: &RawDocument) -> Option<Vec<u8>> {
    let is_retryable = matches!(raw.get("multiOpType"), Ok(Some(RawBsonRef::Int32(1))));
    if is_retryable {
        return None;
    }
    let session = raw.get_document("lsid").ok()?;
    let number = raw.get_i64("txnNumber").ok()?;
    let mut name = session.as_bytes().to_vec();
    name.extend(number.to_le_bytes());
    Some(name)
}

/// Returns the time of the entry that this entry of a transaction continues.
pub(crate) fn continues(raw: &RawDocument) -> Option<Timestamp> {
    transaction(raw)?;
    let is_of_transaction = apply_ops(raw).is_some()
        || (is_command(raw) && command(raw).is_some_and(|(name, _)| name == "commitTransaction"));
    let before = raw.get_document("prevOpTime").ok()?;
    let before = before.get_timestamp("ts").ok()?;
    (is_of_transaction && before.time > 0).then_some(before)
}

pub(crate) fn read(raw: &RawDocument) -> Result<Entry, Unreplayable> {
    if let Some(operations) = apply_ops(raw) {
        let mut changes = Vec::new();
        for operation in operations {
            let RawBsonRef::Document(operation) = operation.map_err(broken)? else {
                return Err(Unreplayable::new("an operation that is not a document"));
            };
            changes.extend(change(operation)?);
        }
        let Some(transaction) = transaction(raw) else {
            return Ok(Entry::Done(changes));
        };
        let command = raw.get_document("o").map_err(broken)?;
        let is = |name: &str| command.get_bool(name).is_ok_and(|it| it);
        return Ok(if is("partialTxn") || is("prepare") {
            Entry::Part {
                transaction,
                changes,
            }
        } else {
            Entry::Last {
                transaction,
                changes,
            }
        });
    }
    if is_command(raw)
        && let Some((name @ ("commitTransaction" | "abortTransaction"), _)) = command(raw)
    {
        let Some(transaction) = transaction(raw) else {
            return Ok(Entry::Nothing);
        };
        return Ok(match name {
            "commitTransaction" => Entry::Last {
                transaction,
                changes: Vec::new(),
            },
            _ => Entry::Aborted { transaction },
        });
    }
    Ok(match change(raw)? {
        Some(change) => Entry::Done(vec![change]),
        None => Entry::Nothing,
    })
}

fn change(raw: &RawDocument) -> Result<Option<Change>, Unreplayable> {
    let kind = raw.get_str("op").map_err(broken)?;
    if kind == "n" {
        return Ok(None);
    }
    let namespace = raw.get_str("ns").map_err(broken)?;
    let (database, collection) = namespace.split_once('.').unwrap_or((namespace, ""));
    let object = raw.get_document("o").map_err(broken)?;
    let place = |collection: &str| Place {
        database: database.to_owned(),
        collection: collection.to_owned(),
        uuid: raw.get("ui").ok().flatten().and_then(uuid),
    };
    let id_of = |document: &RawDocument| match document.get("_id") {
        Ok(Some(id)) => Ok(RawBson::from(id)),
        Ok(None) | Err(_) => Err(Unreplayable::new("a document without _id")),
    };
    Ok(Some(match kind {
        "i" => Change::Put(place(collection), id_of(object)?, object.to_owned()),
        "d" => Change::Remove(place(collection), id_of(object)?),
        "u" => {
            let id = id_of(raw.get_document("o2").map_err(broken)?)?;
            let is_whole = object.get("_id").is_ok_and(|it| it.is_some());
            if is_whole {
                Change::Put(place(collection), id, object.to_owned())
            } else {
                check(object)?;
                Change::Update(place(collection), id, object.to_owned())
            }
        }
        "c" => return of_command(object, place),
        other => {
            return Err(Unreplayable::new(format!(
                "an entry of a kind that this build does not know: {other:?}"
            )));
        }
    }))
}

fn of_command(
    command: &RawDocument,
    place: impl Fn(&str) -> Place,
) -> Result<Option<Change>, Unreplayable> {
    let mut command = Document::try_from(command).map_err(broken)?;
    let Some((name, object)) = command
        .iter()
        .next()
        .map(|(name, it)| (name.clone(), it.clone()))
    else {
        return Ok(None);
    };
    if WITHOUT_EFFECT.contains(&name.as_str()) {
        return Ok(None);
    }
    let Bson::String(object) = object else {
        return Err(unknown(&name));
    };
    command.remove(&name);
    let mut place = place(&object);
    Ok(Some(match name.as_str() {
        "create" => Change::Create(place, command),
        "drop" => Change::Drop(place),
        "renameCollection" => {
            let (database, collection) = object.split_once('.').unwrap_or((&object, ""));
            database.clone_into(&mut place.database);
            collection.clone_into(&mut place.collection);
            let to = command.get_str("to").map_err(broken)?;
            let (database, collection) = to.split_once('.').unwrap_or((to, ""));
            let replaces = command.get("dropTarget").and_then(|it| {
                let Bson::Binary(it) = it else {
                    return None;
                };
                Uuid::from_slice(&it.bytes).ok()
            });
            Change::Rename {
                database: database.to_owned(),
                collection: collection.to_owned(),
                is_temporary: command.get_bool("stayTemp").unwrap_or(false),
                replaces,
                from: place,
            }
        }
        "createIndexes" => Change::AddIndexes(place, vec![command]),
        "commitIndexBuild" => {
            let listed = command.get_array("indexes").map_err(broken)?;
            let indexes = listed.iter().filter_map(|it| it.as_document().cloned());
            Change::AddIndexes(place, indexes.collect())
        }
        "dropIndexes" | "deleteIndexes" => {
            let index = command.get("index").cloned().unwrap_or(Bson::Null);
            Change::RemoveIndex(place, index)
        }
        "collMod" => Change::Modify(place, command),
        other => return Err(unknown(other)),
    }))
}

fn unknown(command: &str) -> Unreplayable {
    let command: String = command.chars().take(64).collect();
    Unreplayable::new(format!(
        "a command that this build does not know: {command:?}"
    ))
}

fn uuid(value: RawBsonRef<'_>) -> Option<Uuid> {
    let RawBsonRef::Binary(it) = value else {
        return None;
    };
    let is_uuid = it.subtype == BinarySubtype::Uuid;
    is_uuid.then(|| Uuid::from_slice(it.bytes).ok()).flatten()
}

impl Place {
    /// Returns the name of the time series whose buckets these are.
    pub(crate) fn time_series(&self) -> Option<&str> {
        self.collection.strip_prefix(BUCKETS)
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use rstest::rstest;

    use super::*;

    fn raw(entry: &Document) -> RawDocumentBuf {
        RawDocumentBuf::try_from(entry).unwrap()
    }

    const SHOP: Wanted<'static> = Wanted {
        database: Some("shop"),
    };

    #[rstest]
    #[case::of_it(doc! {"op": "i", "ns": "shop.a", "o": {"_id": 1}}, true)]
    #[case::of_another(doc! {"op": "i", "ns": "shopping.a", "o": {"_id": 1}}, false)]
    #[case::a_command(doc! {"op": "c", "ns": "shop.$cmd", "o": {"drop": "a"}}, true)]
    #[case::a_command_of_another(doc! {"op": "c", "ns": "other.$cmd", "o": {"drop": "a"}}, false)]
    #[case::nothing(doc! {"op": "n", "ns": "", "o": {"msg": "periodic noop"}}, false)]
    #[case::users(doc! {"op": "i", "ns": "shop.system.users", "o": {"_id": 1}}, false)]
    #[case::buckets(doc! {"op": "i", "ns": "shop.system.buckets.t", "o": {"_id": 1}}, true)]
    fn of_one_database_nothing_of_others_is_kept(#[case] entry: Document, #[case] kept: bool) {
        assert_eq!(keep(&raw(&entry), SHOP).unwrap().is_some(), kept);
    }

    #[test]
    fn of_a_transaction_over_databases_only_ours_is_kept() -> anyhow::Result<()> {
        let entry = doc! {
            "lsid": {"id": 1}, "txnNumber": 7_i64, "op": "c", "ns": "admin.$cmd", "o": {"applyOps": [
                {"op": "i", "ns": "shop.a", "o": {"_id": 1}}, {"op": "i", "ns": "other.x", "o": {"_id": "secret"}},
            ], "count": 2}, "ts": 1,
        };
        let kept = keep(&raw(&entry), SHOP)?.unwrap();
        let expected = doc! {
            "lsid": {"id": 1}, "txnNumber": 7_i64, "op": "c", "ns": "admin.$cmd", "o": {"applyOps": [
                {"op": "i", "ns": "shop.a", "o": {"_id": 1}},
            ], "count": 2}, "ts": 1,
        };
        assert_eq!(kept, raw(&expected));
        Ok(())
    }

    #[test]
    fn a_transaction_in_parts_counts_from_its_end_on() -> anyhow::Result<()> {
        let of = |id: i32, more: Document| {
            let mut command = doc! {"applyOps": [{"op": "i", "ns": "shop.a", "o": {"_id": id}}]};
            command.extend(more);
            doc! {"lsid": {"id": 1}, "txnNumber": 7_i64, "op": "c", "ns": "admin.$cmd", "o": command}
        };
        let mut open = super::super::Transactions::default();
        let mut done =
            |entry: &Document| Ok::<_, Unreplayable>(open.take(read(&raw(entry))?).len());
        assert_eq!(done(&of(1, doc! {"partialTxn": true}))?, 0);
        assert_eq!(done(&of(2, doc! {"count": 2}))?, 2);
        assert_eq!(done(&of(3, doc! {"prepare": true}))?, 0);
        let end = |name: &str| doc! {"lsid": {"id": 1}, "txnNumber": 7_i64, "op": "c", "ns": "admin.$cmd", "o": {name: 1}};
        assert_eq!(done(&end("abortTransaction"))?, 0);
        assert_eq!(done(&end("commitTransaction"))?, 0);
        Ok(())
    }

    #[test]
    fn what_this_build_does_not_know_is_refused() {
        for entry in [
            doc! {"op": "c", "ns": "shop.$cmd", "o": {"importCollection": "a"}},
            doc! {"op": "xi", "ns": "shop.a", "o": {"_id": 1}},
            doc! {"op": "u", "ns": "shop.a", "o": {"$v": 2, "diff": {"z": {}}}, "o2": {"_id": 1}},
        ] {
            assert!(read(&raw(&entry)).is_err(), "{entry}");
        }
    }
}
