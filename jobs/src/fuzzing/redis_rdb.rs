//! An RDB file of any bytes that can be taken apart can be put together again.

use std::convert::Infallible;

use crate::format::rdb::{
    Element, Header, Limits, RdbWriter, SplitError, Summary, Value, ValueKind, Version, Visit,
    parse_dump_payload, restore_payload, split,
};

/// Reads bytes as an RDB file: once with values longer than the first byte in pieces, and once with all values whole.
///
/// A file that was read whole must be readable again after it is rewritten.
pub fn redis_rdb(bytes: &[u8]) {
    let Some((limit, file)) = bytes.split_first() else {
        return;
    };
    drop(parse_dump_payload(file));
    drop(copied(file, usize::from(*limit)));
    let Ok((summary, copy)) = copied(file, usize::MAX / 4) else {
        return;
    };
    let again = copied(&copy, usize::MAX / 4).ok();
    let counts = |summary: &Summary| (summary.whole, summary.expiring, summary.functions);
    let same = again.as_ref().map(|(again, copy)| (counts(again), copy));
    assert_eq!(same, Some((counts(&summary), &copy)), "a copy is the same");
}

fn copied(
    file: &[u8],
    whole_value_bytes: usize,
) -> Result<(Summary, Vec<u8>), SplitError<Infallible>> {
    let mut copy = Copy::default();
    let limits = Limits {
        whole_value_bytes,
        ..Limits::default()
    };
    let summary = split(file, &mut copy, limits)?;
    if let Some((_, writer)) = copy.writer {
        writer.finish(&mut copy.out);
    }
    Ok((summary, copy.out))
}

/// Writes what it visits.
#[derive(Default)]
struct Copy {
    writer: Option<(Version, RdbWriter)>,
    out: Vec<u8>,
}

impl Visit for Copy {
    type Error = Infallible;

    fn begin(&mut self, version: Version) -> Result<(), Infallible> {
        self.writer = Some((version, RdbWriter::begin(version, &mut self.out)));
        Ok(())
    }

    fn aux(&mut self, field: &[u8], value: &[u8]) -> Result<(), Infallible> {
        if let Some((_, writer)) = &mut self.writer {
            writer.aux(field, value, &mut self.out);
        }
        Ok(())
    }

    fn function(&mut self, source: &[u8]) -> Result<(), Infallible> {
        if let Some((_, writer)) = &mut self.writer {
            writer.function(source, &mut self.out);
        }
        Ok(())
    }

    fn value(&mut self, value: Value<'_>) -> Result<(), Infallible> {
        if let Some((version, writer)) = &mut self.writer {
            writer.value(&value, &mut self.out);
            let mut payload = Vec::new();
            restore_payload(value.stored, *version, &mut payload);
            let again = parse_dump_payload(&payload);
            assert_eq!(again, Ok((value.stored, *version)), "a payload is the same");
        }
        Ok(())
    }

    fn begin_large(&mut self, _: ValueKind, _: Header<'_>) -> Result<(), Infallible> {
        Ok(())
    }

    fn element(&mut self, element: Element<'_>) -> Result<(), Infallible> {
        if let Element::StreamEntry { pairs, .. } = element {
            pairs.fields_and_values().for_each(drop);
        }
        Ok(())
    }

    fn end_large(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
