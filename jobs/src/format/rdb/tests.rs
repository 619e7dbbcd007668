//! A file is taken apart into exactly what is in it, or refused.

mod golden;
mod handmade;
mod laws;

use std::collections::{BTreeMap, BTreeSet};

use super::{value::StreamHistory, *};

/// What a visitor was shown, in a comparable form.
#[derive(Debug, Default)]
struct Heard {
    version: Option<Version>,
    aux: Vec<(Vec<u8>, Vec<u8>)>,
    functions: Vec<Vec<u8>>,
    whole: Vec<Whole>,
    contents: BTreeMap<(u64, Vec<u8>), Content>,
    open: Option<((u64, Vec<u8>), Content)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Whole {
    db: u64,
    key: Vec<u8>,
    expires_at_ms: Option<u64>,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
    metadata: Vec<u8>,
    type_byte: u8,
    raw: Vec<u8>,
}

/// What a client would see of a value given in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    /// Scores as their bits, so that only identical ones are equal.
    Zset(BTreeMap<Vec<u8>, u64>),
    Hash(BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>),
    /// Roughly the commands.
    Stream(Vec<String>),
}

impl Visit for Heard {
    type Error = std::convert::Infallible;

    fn begin(&mut self, version: Version) -> Result<(), Self::Error> {
        self.version = Some(version);
        Ok(())
    }

    fn aux(&mut self, field: &[u8], value: &[u8]) -> Result<(), Self::Error> {
        self.aux.push((field.to_vec(), value.to_vec()));
        Ok(())
    }

    fn function(&mut self, source: &[u8]) -> Result<(), Self::Error> {
        self.functions.push(source.to_vec());
        Ok(())
    }

    fn value(&mut self, value: Value<'_>) -> Result<(), Self::Error> {
        let Value { header, stored } = value;
        self.whole.push(Whole {
            db: header.db,
            key: header.key.to_vec(),
            expires_at_ms: header.expires_at_ms,
            idle_seconds: header.idle_seconds,
            frequency: header.frequency,
            metadata: stored.metadata.to_vec(),
            type_byte: stored.type_byte,
            raw: stored.raw.to_vec(),
        });
        Ok(())
    }

    fn begin_large(&mut self, kind: ValueKind, header: Header<'_>) -> Result<(), Self::Error> {
        let content = match kind {
            ValueKind::String => Content::String(Vec::new()),
            ValueKind::List => Content::List(Vec::new()),
            ValueKind::Set => Content::Set(BTreeSet::new()),
            ValueKind::Zset => Content::Zset(BTreeMap::new()),
            ValueKind::Hash => Content::Hash(BTreeMap::new()),
            ValueKind::Stream => Content::Stream(Vec::new()),
        };
        self.open = Some(((header.db, header.key.to_vec()), content));
        Ok(())
    }

    fn element(&mut self, element: Element<'_>) -> Result<(), Self::Error> {
        let (_, content) = self.open.as_mut().unwrap();
        match (content, element) {
            (Content::String(all), Element::StringChunk(chunk)) => all.extend_from_slice(chunk),
            (Content::List(all), Element::ListItem(item)) => all.push(item.to_vec()),
            (Content::Set(all), Element::SetMember(member)) => {
                assert!(all.insert(member.to_vec()));
            }
            (Content::Zset(all), Element::ZsetMember { member, score }) => {
                all.insert(member.to_vec(), score.to_bits());
            }
            (
                Content::Hash(all),
                Element::HashField {
                    field,
                    value,
                    expires_at_ms,
                },
            ) => {
                all.insert(field.to_vec(), (value.to_vec(), expires_at_ms));
            }
            // The elements that follow say the same.
            (Content::Stream(_), Element::StreamGroups { .. }) => {}
            (Content::Stream(all), element) => all.push(shown(element)),
            (content, element) => panic!("{element:?} in {content:?}"),
        }
        Ok(())
    }

    fn end_large(&mut self) -> Result<(), Self::Error> {
        let (key, content) = self.open.take().unwrap();
        assert!(self.contents.insert(key, content).is_none());
        Ok(())
    }
}

fn shown(element: Element<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match element {
        Element::StreamEntry { id, pairs } => {
            let words: Vec<_> = pairs.fields_and_values().map(text).collect();
            format!("xadd {id} {}", words.join(" "))
        }
        Element::StreamMeta(meta) => {
            let history = meta.history.map_or_else(String::new, |history| {
                let StreamHistory {
                    entries_added,
                    max_deleted_id,
                } = history;
                format!(" added {entries_added} deleted {max_deleted_id}")
            });
            format!("xsetid {} of {}{history}", meta.last_id, meta.length)
        }
        Element::StreamGroup {
            group,
            last_delivered,
            entries_read,
        } => format!("group {} {last_delivered} {entries_read:?}", text(group)),
        Element::StreamConsumer { group, consumer } => {
            format!("consumer {} {}", text(group), text(consumer))
        }
        Element::StreamPending {
            group,
            consumer,
            id,
            delivered_at_ms,
            deliveries,
        } => {
            assert!(delivered_at_ms > 0);
            format!(
                "pending {} {} {id} {deliveries}",
                text(group),
                text(consumer)
            )
        }
        Element::StringChunk(_)
        | Element::ListItem(_)
        | Element::SetMember(_)
        | Element::ZsetMember { .. }
        | Element::HashField { .. }
        | Element::StreamGroups { .. } => panic!("{element:?} in a stream"),
    }
}

const WHOLE: Limits = Limits {
    whole_value_bytes: usize::MAX / 4,
    string_bytes: LONGEST_WRITTEN,
    longer: Longer::Refused,
};
const PIECES: Limits = Limits {
    whole_value_bytes: 0,
    string_bytes: LONGEST_WRITTEN,
    longer: Longer::Refused,
};

fn hear(bytes: &[u8], limits: Limits) -> Result<(Heard, Summary), FormatError> {
    let mut heard = Heard::default();
    match split(bytes, &mut heard, limits) {
        Ok(summary) => Ok((heard, summary)),
        Err(SplitError::Format(error)) => Err(error),
        Err(error) => panic!("{error:?}"),
    }
}

/// Adds a header before a body, and an end and a checksum after it.
fn file(magic: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = [magic.as_bytes(), body, &[255]].concat();
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Redis, &bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Returns the content of the only value of a file, given in pieces.
fn content(magic: &str, body: &[u8]) -> Result<Content, FormatError> {
    let bytes = file(magic, body);
    let (whole, _) = hear(&bytes, WHOLE)?;
    assert_eq!(whole.whole.len(), 1);
    let (heard, summary) = hear(&bytes, PIECES)?;
    assert_eq!((summary.large, summary.whole), (1, 0));
    Ok(heard.contents.into_values().next().unwrap())
}

fn hash(fields: &[(&str, &str, Option<u64>)]) -> Content {
    let field = |(field, value, at): &(&str, &str, Option<u64>)| {
        (field.as_bytes().to_vec(), (value.as_bytes().to_vec(), *at))
    };
    Content::Hash(fields.iter().map(field).collect())
}
