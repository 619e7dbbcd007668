//! Splits a file from one opcode to the next: which key each part belongs to, and what the visitor is shown.

use std::io::Read;

use super::{
    Limits, Visit,
    layout::{Flavour, Next, OPCODE_KEY_METADATA, Shape, Version},
    pieces::{Scratch, give_elements},
    reader::{READ_BYTES, Reader, Stop},
    skim::{
        EMPTY_BYTES_MAX, Skimmed, skim, skim_key_metadata, skim_module_data, too_large_for_module,
    },
    value::{Checksum, FormatError, Header, SplitError, Stored, Summary, Value, ValueKind},
};

/// A file on its way from the source to the visitor.
pub(super) struct Splitter<'v, R, V> {
    reader: Reader<R>,
    visitor: &'v mut V,
    limits: Limits,
    summary: Summary,
    about: About,
    scratch: Scratch,
}

/// What the file said about the next key.
#[derive(Debug, Default)]
struct About {
    db: u64,
    key: Vec<u8>,
    metadata: Vec<u8>,
    expires_at_ms: Option<u64>,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

impl About {
    fn header(&self) -> Header<'_> {
        Header {
            db: self.db,
            key: &self.key,
            expires_at_ms: self.expires_at_ms,
            idle_seconds: self.idle_seconds,
            frequency: self.frequency,
        }
    }

    /// Forgets what applied to a single key.
    fn forget(&mut self) {
        self.metadata.clear();
        self.expires_at_ms = None;
        self.idle_seconds = None;
        self.frequency = None;
    }
}

impl<E> From<Stop> for SplitError<E> {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Format(error) => Self::Format(error),
            Stop::Read(error) => Self::Read(error),
            Stop::Full { at } => Self::Format(FormatError::TooLong { at }),
        }
    }
}

impl<'v, R: Read, V: Visit> Splitter<'v, R, V> {
    /// Reads the header.
    pub(super) fn begin(
        source: R,
        visitor: &'v mut V,
        limits: Limits,
    ) -> Result<Self, SplitError<V::Error>> {
        let mut reader = Reader::new(source, READ_BYTES, limits);
        let version = version(&mut reader)?;
        visitor.begin(version).map_err(SplitError::Visitor)?;
        Ok(Self {
            reader,
            visitor,
            limits,
            summary: Summary {
                version,
                bytes: 0,
                checksum: Checksum::Absent,
                whole: 0,
                large: 0,
                expiring: 0,
                empty: 0,
                too_long: 0,
                longest_bytes: 0,
                functions: 0,
                module_aux: 0,
                slot_imports: 0,
                idempotency_ids_dropped: 0,
            },
            about: About::default(),
            scratch: Scratch::default(),
        })
    }

    /// Reads the rest, to the end.
    pub(super) fn finish(mut self) -> Result<Summary, SplitError<V::Error>> {
        loop {
            let at = self.reader.at();
            let byte = self.reader.byte()?;
            match Next::of(byte, self.summary.version, at)? {
                Next::Value(shape) => self.value(byte, shape)?,
                Next::KeyMetadata => self.key_metadata()?,
                Next::SelectDb => self.about.db = self.reader.length()?,
                Next::ExpiresMillis => {
                    let at = self.reader.millis()?;
                    self.expires(at);
                }
                Next::ExpiresSeconds => {
                    let seconds = u32::from_le_bytes(self.reader.array()?);
                    self.expires(u64::from(seconds) * 1000);
                }
                Next::Idle => self.about.idle_seconds = Some(self.reader.length()?),
                Next::Frequency => self.about.frequency = Some(self.reader.byte()?),
                Next::Aux => self.aux()?,
                Next::Function => self.function()?,
                Next::ModuleAux => self.module_aux()?,
                Next::SlotImport => self.slot_import()?,
                // Only hints at how much memory will be needed.
                Next::ResizeDb => self.skip_lengths(2)?,
                Next::SlotInfo => self.skip_lengths(3)?,
                Next::End => return self.end(),
            }
        }
    }

    /// Turns an expiry of 0 into 1: both have passed, but `RESTORE` takes 0 for no expiry.
    fn expires(&mut self, at_ms: u64) {
        self.about.expires_at_ms = Some(at_ms.max(1));
    }

    fn value(&mut self, type_byte: u8, shape: Shape) -> Result<(), SplitError<V::Error>> {
        self.reader.string_into(&mut self.about.key)?;
        let limit = self.limits.whole_value_bytes;
        // At least enough to recognise an empty value.
        self.reader.hold(limit.max(EMPTY_BYTES_MAX));
        match skim(&mut self.reader, shape) {
            Ok(Skimmed::Empty) => self.summary.empty += 1,
            Ok(Skimmed::Value) if self.reader.held().len() <= limit => self.whole(type_byte)?,
            Ok(Skimmed::Value) | Err(Stop::Full { .. }) => {
                self.reader.rewind();
                self.large(shape)?;
            }
            Err(stop) => return Err(stop.into()),
        }
        self.reader.release();
        self.about.forget();
        Ok(())
    }

    fn whole(&mut self, type_byte: u8) -> Result<(), SplitError<V::Error>> {
        self.summary.whole += 1;
        self.summary.expiring += u64::from(self.about.expires_at_ms.is_some());
        let value = Value {
            header: self.about.header(),
            stored: Stored {
                metadata: &self.about.metadata,
                type_byte,
                raw: self.reader.held(),
            },
        };
        self.visitor.value(value).map_err(SplitError::Visitor)
    }

    fn large(&mut self, shape: Shape) -> Result<(), SplitError<V::Error>> {
        let limit = self.limits.whole_value_bytes;
        let Some(kind) = shape.kind() else {
            return Err(too_large_for_module(&mut self.reader, limit).into());
        };
        if !self.about.metadata.is_empty() {
            return Err(FormatError::MetadataOnLarge { limit }.into());
        }
        self.summary.large += 1;
        self.summary.expiring += u64::from(self.about.expires_at_ms.is_some());
        self.give_large(kind, shape)
    }

    fn give_large(&mut self, kind: ValueKind, shape: Shape) -> Result<(), SplitError<V::Error>> {
        let visitor = &mut *self.visitor;
        let begun = visitor.begin_large(kind, self.about.header());
        begun.map_err(SplitError::Visitor)?;
        let mut give = |element: super::Element<'_>| {
            let given = visitor.element(element);
            given.map_err(SplitError::Visitor)
        };
        let dropped = give_elements(&mut self.reader, shape, &mut self.scratch, &mut give)?;
        self.summary.idempotency_ids_dropped += dropped.idempotency_ids;
        self.visitor.end_large().map_err(SplitError::Visitor)
    }

    /// Keeps the metadata of the key, which must follow at once.
    fn key_metadata(&mut self) -> Result<(), SplitError<V::Error>> {
        self.reader.hold(self.limits.whole_value_bytes);
        skim_key_metadata(&mut self.reader)?;
        self.about.metadata.clear();
        self.about.metadata.push(OPCODE_KEY_METADATA);
        self.about.metadata.extend_from_slice(self.reader.held());
        self.reader.release();
        let at = self.reader.at();
        let type_byte = self.reader.byte()?;
        let shape = Shape::of(type_byte, self.summary.version, at)?;
        self.value(type_byte, shape)
    }

    fn aux(&mut self) -> Result<(), SplitError<V::Error>> {
        let (mut field, mut value) = (Vec::new(), Vec::new());
        self.reader.string_into(&mut field)?;
        self.reader.string_into(&mut value)?;
        self.visitor
            .aux(&field, &value)
            .map_err(SplitError::Visitor)
    }

    fn function(&mut self) -> Result<(), SplitError<V::Error>> {
        let mut source = Vec::new();
        self.reader.string_into(&mut source)?;
        self.summary.functions += 1;
        self.visitor.function(&source).map_err(SplitError::Visitor)
    }

    fn module_aux(&mut self) -> Result<(), SplitError<V::Error>> {
        // The module's id; then when the module wants its data back, as a module's integer.
        self.skip_lengths(3)?;
        skim_module_data(&mut self.reader)?;
        self.summary.module_aux += 1;
        Ok(())
    }

    fn slot_import(&mut self) -> Result<(), SplitError<V::Error>> {
        self.reader.skip_string()?;
        let ranges = self.reader.length()?;
        for _ in 0..ranges {
            self.skip_lengths(2)?;
        }
        self.summary.slot_imports += 1;
        Ok(())
    }

    fn skip_lengths(&mut self, count: usize) -> Result<(), SplitError<V::Error>> {
        for _ in 0..count {
            self.reader.length()?;
        }
        Ok(())
    }

    fn end(mut self) -> Result<Summary, SplitError<V::Error>> {
        if self.summary.version.has_checksum() {
            let computed = self.reader.checksum();
            let stored = u64::from_le_bytes(self.reader.array().map_err(SplitError::from)?);
            self.summary.checksum = match stored {
                0 => Checksum::Disabled,
                stored if stored == computed => Checksum::Verified,
                _ => return Err(FormatError::Checksum.into()),
            };
        }
        self.reader.end()?;
        self.summary.bytes = self.reader.at();
        self.summary.too_long = self.reader.passed_over.strings;
        self.summary.longest_bytes = self.reader.passed_over.longest_bytes;
        Ok(self.summary)
    }
}

/// Parses `REDIS0011` or `VALKEY080`: nine bytes of a word and a number.
fn version<R: Read>(reader: &mut Reader<R>) -> Result<Version, Stop> {
    let header: [u8; 9] = reader.array()?;
    let (flavour, digits) = if let Some(digits) = header.strip_prefix(b"REDIS") {
        (Flavour::Redis, digits)
    } else if let Some(digits) = header.strip_prefix(b"VALKEY") {
        (Flavour::Valkey, digits)
    } else {
        return Err(FormatError::NotRdb.into());
    };
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(digits).ok().filter(|_| is_number);
    let number = number.and_then(|digits| digits.parse().ok());
    let version = Version::new(number.ok_or(FormatError::NotRdb)?)?;
    if version.flavour() == flavour {
        Ok(version)
    } else {
        Err(FormatError::Version {
            number: version.number(),
        }
        .into())
    }
}
