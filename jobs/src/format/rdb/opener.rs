//! Takes apart a value that was given whole: what is in it, whatever its encoding?

use std::{convert::Infallible, io::Read};

use super::{
    Limits, Longer,
    layout::{Shape, Version},
    pieces::{Scratch, give_elements},
    reader::{Reader, Stop},
    value::{Element, SplitError, Stored, ValueKind},
};

/// The longest string within a value that is expanded.
const STRING_BYTES: u64 = 64 * 1024 * 1024;

/// Takes values apart, one after another. Keeps its buffers, so that small values cost no allocation.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    buffer: Vec<u8>,
    scratch: Scratch,
}

/// A value that could not be taken apart. Some of its elements may have been given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// Its bytes make no sense to this build.
    Strange,
    /// It has a string that is too long to be held.
    TooLong,
}

impl Opener {
    /// Gives the elements of a value, and returns its kind.
    ///
    /// A module's value has no kind. Its data and a key's metadata, as far as the format tells, come as list items.
    pub(crate) fn open(
        &mut self,
        stored: Stored<'_>,
        version: Version,
        give: &mut dyn FnMut(Element<'_>),
    ) -> Result<Option<ValueKind>, Unopened> {
        let shape = Shape::of(stored.type_byte, version, 0).map_err(|_| Unopened::Strange)?;
        if !stored.metadata.is_empty() {
            // After the opcode.
            let metadata = stored.metadata.get(1..).unwrap_or_default();
            self.read(metadata, |reader, scratch| {
                give_metadata(reader, scratch, give)
            })?;
        }
        let Some(kind) = shape.kind() else {
            self.read(stored.raw, |reader, scratch| {
                give_number(reader.length()?, give);
                give_module_data(reader, scratch, give)
            })?;
            return Ok(None);
        };
        self.read(stored.raw, |reader, scratch| {
            let mut give = |element: Element<'_>| {
                give(element);
                Ok::<_, SplitError<Infallible>>(())
            };
            match give_elements(reader, shape, scratch, &mut give) {
                Ok(_) => Ok(()),
                Err(SplitError::Format(error)) => Err(Stop::Format(error)),
                Err(SplitError::Read(error)) => Err(Stop::Read(error)),
                Err(SplitError::Visitor(never)) => match never {},
            }
        })?;
        Ok(Some(kind))
    }

    fn read(
        &mut self,
        bytes: &[u8],
        read: impl FnOnce(&mut Reader<std::io::Empty>, &mut Scratch) -> Result<(), Stop>,
    ) -> Result<(), Unopened> {
        let limits = Limits {
            string_bytes: STRING_BYTES,
            longer: Longer::PassedOver,
            ..Limits::default()
        };
        let buffer = std::mem::take(&mut self.buffer);
        let mut reader = Reader::of_bytes(bytes, buffer, limits);
        let read = read(&mut reader, &mut self.scratch);
        let is_at_end = reader.at() == bytes.len() as u64;
        let passed_over = reader.passed_over.strings;
        self.buffer = reader.into_buffer();
        match read {
            Ok(()) if passed_over > 0 => Err(Unopened::TooLong),
            Ok(()) if is_at_end => Ok(()),
            Err(Stop::Full { .. }) => Err(Unopened::TooLong),
            Ok(()) | Err(Stop::Format(_) | Stop::Read(_)) => Err(Unopened::Strange),
        }
    }
}

impl<'a> Stored<'a> {
    /// Returns the kind of the value; `None` for a module's.
    pub(crate) fn kind(&self, version: Version) -> Option<ValueKind> {
        Shape::of(self.type_byte, version, 0).ok()?.kind()
    }

    /// Returns the text of a string that is stored as it is, without anything else. Most are.
    pub(crate) fn plain_string(&self) -> Option<&'a [u8]> {
        const STRING: u8 = 0;
        if self.type_byte != STRING || !self.metadata.is_empty() {
            return None;
        }
        plain(self.raw)
    }
}

fn plain(raw: &[u8]) -> Option<&[u8]> {
    let (first, rest) = raw.split_first()?;
    let (length, text) = match (first >> 6, first & 0x3f) {
        (0, low) => (u64::from(low), rest),
        (1, low) => {
            let (next, rest) = rest.split_first()?;
            (u64::from(low) << 8 | u64::from(*next), rest)
        }
        (2, 0) => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from(u32::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    (length == text.len() as u64).then_some(text)
}

fn give_metadata<R: Read>(
    reader: &mut Reader<R>,
    scratch: &mut Scratch,
    give: &mut dyn FnMut(Element<'_>),
) -> Result<(), Stop> {
    let classes = reader.length()?;
    for _ in 0..classes {
        give(Element::ListItem(&reader.array::<4>()?));
        give_module_data(reader, scratch, give)?;
    }
    Ok(())
}

/// Gives what a module wrote, up to its end marker. Strings come expanded: servers compress them as they like.
fn give_module_data<R: Read>(
    reader: &mut Reader<R>,
    scratch: &mut Scratch,
    give: &mut dyn FnMut(Element<'_>),
) -> Result<(), Stop> {
    loop {
        let what = reader.length()?;
        give_number(what, give);
        match what {
            0 => return Ok(()),
            1 | 2 => give_number(reader.length()?, give),
            3 => give(Element::ListItem(&reader.array::<4>()?)),
            4 => give(Element::ListItem(&reader.array::<8>()?)),
            5 => {
                reader.string_into(scratch.text())?;
                give(Element::ListItem(scratch.text()));
            }
            _ => return Err(reader.malformed("an unknown kind of a module's data")),
        }
    }
}

fn give_number(number: u64, give: &mut dyn FnMut(Element<'_>)) {
    give(Element::ListItem(&number.to_le_bytes()));
}
