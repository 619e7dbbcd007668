//! Written files are read again, cut or changed files are refused, and no input does harm.

use proptest::prelude::*;

use super::*;

/// Values of every kind of raw string, small and large.
fn value() -> impl Strategy<Value = Whole> {
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    let raw = bytes.clone().prop_map(|bytes| {
        let length = u16::try_from(bytes.len()).unwrap() | 0x4000;
        [&length.to_be_bytes()[..], &bytes].concat()
    });
    (
        prop_oneof![Just(0_u64), 1..70_u64, 16_000..17_000_u64, any::<u64>()],
        bytes,
        prop::option::of(1..u64::try_from(i64::MAX).unwrap()),
        prop::option::of(any::<u64>()),
        prop::option::of(any::<u8>()),
        raw,
    )
        .prop_map(
            |(db, key, expires_at_ms, idle_seconds, frequency, raw)| Whole {
                db,
                key,
                expires_at_ms,
                idle_seconds,
                frequency,
                metadata: Vec::new(),
                type_byte: 0,
                raw,
            },
        )
}

fn write(version: Version, values: &[Whole]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = RdbWriter::begin(version, &mut out);
    writer.aux(b"redis-ver", b"7.0.15", &mut out);
    writer.function(b"#!lua name=a\n", &mut out);
    for it in values {
        let value = Value {
            header: Header {
                db: it.db,
                key: &it.key,
                expires_at_ms: it.expires_at_ms,
                idle_seconds: it.idle_seconds,
                frequency: it.frequency,
            },
            stored: Stored {
                metadata: &it.metadata,
                type_byte: it.type_byte,
                raw: &it.raw,
            },
        };
        writer.value(&value, &mut out);
    }
    writer.finish(&mut out);
    out
}

/// Yields its bytes a few at a time.
struct Dripping<'a> {
    bytes: &'a [u8],
    at_once: usize,
}

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end = self.at_once.min(buffer.len());
        self.bytes.read(&mut buffer[..end])
    }
}

const GOLDEN: [&[u8]; 3] = [
    include_bytes!("../golden/redis-6.2.rdb"),
    include_bytes!("../golden/redis-7.0.rdb"),
    include_bytes!("../golden/valkey-9.1.rdb"),
];

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        values in prop::collection::vec(value(), 0..20),
        number in prop_oneof![Just(10_u16), Just(13), Just(80)],
        at_once in 1..2000_usize,
    ) {
        let version = Version::new(number)?;
        let bytes = write(version, &values);
        let mut heard = Heard::default();
        let source = Dripping { bytes: &bytes, at_once };
        let summary = split(source, &mut heard, WHOLE)?;
        prop_assert_eq!(summary.version, version);
        prop_assert_eq!(summary.checksum, Checksum::Verified);
        prop_assert_eq!(heard.whole, values);
        prop_assert_eq!(heard.aux, [(b"redis-ver".to_vec(), b"7.0.15".to_vec())]);
        prop_assert_eq!(heard.functions, [b"#!lua name=a\n".to_vec()]);
    }

    #[test]
    fn a_payload_is_taken_apart_as_it_was_put_together(value in value(), flip in any::<prop::sample::Index>(), bit in 0..8) {
        let version = Version::new(11)?;
        let stored = Stored { metadata: &[], type_byte: 0, raw: &value.raw };
        let mut payload = Vec::new();
        restore_payload(stored, version, &mut payload);
        prop_assert_eq!(parse_dump_payload(&payload)?, (stored, version));
        let flip = flip.index(payload.len());
        payload[flip] ^= 1_u8 << bit;
        prop_assert!(parse_dump_payload(&payload).is_err());
        payload.truncate(flip);
        prop_assert!(parse_dump_payload(&payload).is_err());
    }

    #[test]
    fn a_cut_file_is_refused(which in 0..3_usize, cut in any::<prop::sample::Index>(), limits in limits()) {
        let bytes = GOLDEN[which];
        prop_assert!(hear(&bytes[..cut.index(bytes.len())], limits).is_err());
    }

    #[test]
    fn a_changed_file_is_refused(which in 0..3_usize, at in any::<prop::sample::Index>(), bit in 0..8, limits in limits()) {
        let mut bytes = GOLDEN[which].to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(quiet(&bytes, limits).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        magic in prop_oneof![Just("REDIS0009"), Just("REDIS0013"), Just("VALKEY080")],
        type_byte in any::<u8>(),
        body in prop::collection::vec(prop_oneof![0..8_u8, any::<u8>()], 0..200),
        limits in limits(),
    ) {
        let bytes = [magic.as_bytes(), &[type_byte, 0], &body].concat();
        drop(quiet(&bytes, limits));
        drop(parse_dump_payload(&body));
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    prop_oneof![
        Just(WHOLE),
        Just(PIECES),
        (0..300_usize).prop_map(|whole_value_bytes| Limits {
            whole_value_bytes,
            ..Limits::default()
        })
    ]
}

/// A visitor that ignores everything, because damaged values may have a member twice.
struct Deaf;

impl Visit for Deaf {
    type Error = std::convert::Infallible;

    fn begin(&mut self, _: Version) -> Result<(), Self::Error> {
        Ok(())
    }
    fn aux(&mut self, _: &[u8], _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
    fn function(&mut self, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
    fn value(&mut self, _: Value<'_>) -> Result<(), Self::Error> {
        Ok(())
    }
    fn begin_large(&mut self, _: ValueKind, _: Header<'_>) -> Result<(), Self::Error> {
        Ok(())
    }
    fn element(&mut self, _: Element<'_>) -> Result<(), Self::Error> {
        Ok(())
    }
    fn end_large(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn quiet(bytes: &[u8], limits: Limits) -> Result<Summary, SplitError<std::convert::Infallible>> {
    split(bytes, &mut Deaf, limits)
}
