//! Tells from a dump that passes by what it holds: rows of tables, values of sequences, the objects of each kind.

use std::collections::{BTreeMap, HashMap};

use super::{Entry, layout::int};
use crate::contents::{Contents, Hashing, Item, ItemHash};

/// How many items are listed. Of a database with more, the rest is counted and hashed as one item for each kind: a
/// difference there is noticed all the same, but not by its name.
const LISTED: usize = 250_000;

/// What the dump has shown so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    items: Vec<Item>,
    /// The kinds' items beyond those that are listed.
    rest: BTreeMap<&'static str, Sum>,
    /// The entry of each table's data.
    tables: HashMap<u32, Table>,
    /// The data that passes by.
    current: Current,
    objects: Sum,
}

/// A table whose data is in the dump.
#[derive(Debug)]
struct Table {
    name: String,
    columns: String,
    rows: Sum,
}

/// How many members a set has, and the sum of their hashes.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u64,
    hash: ItemHash,
}

impl Sum {
    fn add(&mut self, hash: ItemHash) {
        self.count += 1;
        self.hash.add(hash);
    }
}

/// Whose data passes by.
#[derive(Debug, Default)]
enum Current {
    #[default]
    Nothing,
    Table {
        id: u32,
        rows: Rows,
    },
    Object(Hashing),
}

impl Tally {
    /// Takes an entry of the table of contents.
    pub(super) fn entry(&mut self, entry: &Entry) {
        match entry.kind.as_str() {
            "TABLE DATA" => {
                let table = Table {
                    name: full_name(entry),
                    columns: columns(&entry.copy),
                    rows: Sum::default(),
                };
                self.tables.insert(entry.id, table);
            }
            "SEQUENCE SET" => self.list(Item {
                value: last_value(&entry.definition),
                ..Item::new("sequence value", full_name(entry))
            }),
            _ => {
                if let Some(kind) = compared(entry) {
                    let is_not_valid = entry.definition.trim_end().ends_with("NOT VALID;");
                    self.list(Item {
                        value: is_not_valid.then(|| "not valid".to_owned()),
                        ..Item::new(kind, full_name(entry))
                    });
                }
            }
        }
    }

    fn list(&mut self, item: Item) {
        if self.items.len() < LISTED {
            self.items.push(item);
            return;
        }
        let kind = match item.kind.as_ref() {
            "table data" => "more tables' data",
            "sequence value" => "more sequences' values",
            _ => "more objects",
        };
        let mut hashing = Hashing::default();
        let text = |it: Option<String>| it.unwrap_or_default();
        let hash = item.hash.map(|hash| hash.to_string());
        for part in [&*item.kind, &*item.name, &*text(item.value), &*text(hash)] {
            hashing.update(part.as_bytes());
            hashing.update(&[0]);
        }
        self.rest.entry(kind).or_default().add(hashing.finish());
    }

    /// Begins with the data of an entry.
    pub(super) fn begin(&mut self, id: u32) {
        self.current = Current::Table {
            id,
            rows: Rows::default(),
        };
    }

    /// Takes a piece of that data, or of a large object.
    pub(super) fn data(&mut self, bytes: &[u8]) {
        match &mut self.current {
            Current::Nothing => {}
            Current::Table { rows, .. } => rows.update(bytes),
            Current::Object(object) => object.update(bytes),
        }
    }

    /// Begins with a large object.
    pub(super) fn begin_object(&mut self, oid: &[u8; 16]) {
        let mut object = Hashing::default();
        object.update(&int(oid).to_le_bytes());
        self.current = Current::Object(object);
    }

    /// Ends the data of the entry, or the large object.
    pub(super) fn end(&mut self) {
        match std::mem::take(&mut self.current) {
            Current::Nothing => {}
            Current::Table { id, rows } => {
                if let Some(table) = self.tables.get_mut(&id) {
                    table.rows = rows.sum;
                }
            }
            Current::Object(object) => self.objects.add(object.finish()),
        }
    }

    /// Returns everything. To be called at the end of the dump.
    pub(super) fn into_contents(mut self) -> Contents {
        for table in std::mem::take(&mut self.tables).into_values() {
            self.list(Item {
                count: Some(table.rows.count),
                hash: Some(table.rows.hash),
                shape: Some(table.columns),
                ..Item::new("table data", table.name)
            });
        }
        let sums = |(kind, sum): (&'static str, Sum)| Item {
            count: Some(sum.count),
            hash: Some(sum.hash),
            ..Item::new(kind, "all")
        };
        let objects = Some(("large objects", self.objects)).filter(|(_, sum)| sum.count > 0);
        let sums = self.rest.into_iter().chain(objects).map(sums);
        self.items.extend(sums);
        Contents { items: self.items }
    }
}

/// Returns how an object's kind is called in the contents; `None` if it may be missing from a dump of the restored
/// database for a reason that is not a loss.
///
/// Owners and grants depend on the roles of a server. Settings and comments of the database itself are not restored
/// into one of another name. Whether the schema `public` is in a dump depends on who owns it.
fn compared(entry: &Entry) -> Option<String> {
    let kind = entry.kind.as_str();
    let is_left_out = match kind {
        "ENCODING" | "STDSTRINGS" | "SEARCHPATH" | "DATABASE" | "DATABASE PROPERTIES" | "ACL"
        | "DEFAULT ACL" | "ACL LANGUAGE" | "SECURITY LABEL" | "STATISTICS DATA" | "SUBSCRIPTION"
        | "SUBSCRIPTION TABLE"
        // Large objects are compared as one item. How they are grouped depends on their owners.
        | "BLOB" | "BLOBS" | "BLOB METADATA" | "BLOB COMMENTS"
        // With their versions, from the server's own list.
        | "EXTENSION" => true,
        "SCHEMA" => entry.tag == "public",
        "COMMENT" => ["EXTENSION ", "DATABASE ", "SCHEMA ", "LARGE OBJECT "]
            .iter()
            .any(|of| entry.tag.starts_with(of)),
        _ => false,
    };
    (!is_left_out).then(|| kind.to_lowercase())
}

fn full_name(entry: &Entry) -> String {
    if entry.namespace.is_empty() {
        entry.tag.clone()
    } else {
        format!("{}.{}", entry.namespace, entry.tag)
    }
}

/// Returns the column list of a `COPY` statement: rows that are printed with other columns cannot be compared.
fn columns(copy: &str) -> String {
    let list = copy.rfind(") FROM").and_then(|end| {
        let list = copy.get(..end)?;
        // The table's name may contain a parenthesis as well, but only in quotes, and a column's too: the whole statement
        // from the first parenthesis on is as good for telling two of them apart.
        list.get(list.find(" (")?..)
    });
    let hash = ItemHash::of(list.unwrap_or_default().as_bytes()).to_string();
    hash.chars().take(8).collect()
}

/// Returns the value and whether it was used, from `SELECT pg_catalog.setval('public.s', 1000, true);`.
fn last_value(definition: &str) -> Option<String> {
    let (_, arguments) = definition.rsplit_once("', ")?;
    let (arguments, _) = arguments.split_once(')')?;
    Some(arguments.to_owned())
}

/// Rows as `COPY` prints them, one in a line.
///
/// The sum of their hashes does not depend on their order, which a table does not promise to keep.
#[derive(Debug, Default)]
struct Rows {
    sum: Sum,
    /// The start of a row whose end has not arrived.
    partial: Option<Hashing>,
    /// The first bytes of it, which tell the mark of the end.
    start: [u8; 3],
    length: usize,
    /// The mark of the end, `\.`, has been seen.
    has_ended: bool,
}

impl Rows {
    fn update(&mut self, mut bytes: &[u8]) {
        while !self.has_ended {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                break;
            };
            let Some((row, rest)) = bytes.split_at_checked(end + 1) else {
                break;
            };
            self.end_row(row);
            bytes = rest;
        }
        if !bytes.is_empty() && !self.has_ended {
            self.keep(bytes);
        }
    }

    fn end_row(&mut self, row: &[u8]) {
        if self.partial.is_some() {
            self.keep(row);
            let hash = self.partial.take().unwrap_or_default().finish();
            let is_end = self.length == 3 && self.start == *b"\\.\n";
            self.length = 0;
            self.row(hash, is_end);
        } else {
            let is_end = row == b"\\.\n";
            self.row(ItemHash::of(row), is_end);
        }
    }

    fn row(&mut self, hash: ItemHash, is_end: bool) {
        if is_end {
            self.has_ended = true;
        } else {
            self.sum.add(hash);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let free = self.start.iter_mut().skip(self.length);
        for (to, from) in free.zip(bytes) {
            *to = *from;
        }
        self.length += bytes.len();
        self.partial
            .get_or_insert_with(Hashing::default)
            .update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows_of(pieces: &[&[u8]]) -> (u64, ItemHash) {
        let mut rows = Rows::default();
        for piece in pieces {
            rows.update(piece);
        }
        (rows.sum.count, rows.sum.hash)
    }

    #[test]
    fn rows_are_counted_without_the_mark_of_their_end() {
        assert_eq!(rows_of(&[b"1\ta\n2\tb\n\\.\n\n\n"]).0, 2);
        assert_eq!(rows_of(&[b"\n\n\\.\n", b"\n\n"]).0, 2);
        assert_eq!(rows_of(&[b"\\.\n\n\n"]), (0, ItemHash::default()));
        assert_eq!(rows_of(&[b"\\\\.\n\\.\n\n\n"]).0, 1);
    }

    #[test]
    fn a_changed_row_changes_the_hash_and_another_order_does_not() {
        let hash = |text: &str| rows_of(&[text.as_bytes()]).1;
        assert_eq!(hash("a\nb\n\\.\n\n\n"), hash("b\na\n\\.\n\n\n"));
        assert_ne!(hash("a\nb\n\\.\n\n\n"), hash("a\nc\n\\.\n\n\n"));
        assert_ne!(hash("a\na\n\\.\n\n\n"), hash("b\nb\n\\.\n\n\n"));
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_does_not_matter(
            rows in prop::collection::vec("[a-z\\t]{0,12}", 0..8),
            cuts in prop::collection::vec(0_usize..120, 0..6),
        ) {
            let mut text = rows.join("\n");
            if !rows.is_empty() {
                text.push('\n');
            }
            text.push_str("\\.\n\n\n");
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let whole = rows_of(&[bytes]);
            prop_assert_eq!(whole.0, rows.len() as u64);
            prop_assert_eq!(rows_of(&pieces), whole);
        }
    }

    #[test]
    fn a_sequences_value_is_read_from_its_statement() {
        let value = last_value("SELECT pg_catalog.setval('public.o''odd, (x)_seq', 1000, true);\n");
        assert_eq!(value.as_deref(), Some("1000, true"));
        assert_eq!(last_value("nothing of the kind"), None);
    }

    #[test]
    fn columns_in_another_order_are_another_shape() {
        let of = |list: &str| columns(&format!("COPY public.\"a (b\" ({list}) FROM stdin;\n"));
        assert_eq!(of("a, b"), of("a, b"));
        assert_ne!(of("a, b"), of("b, a"));
        assert_eq!(of("a").len(), 8);
    }
}
