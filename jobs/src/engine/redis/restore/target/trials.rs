//! The commands that a restore will use, each tried on a key that does not exist.

use crate::format::rdb::ValueKind;

/// A command to try on the probe: its purpose, the words before the key, and those after it.
pub(super) type Trial = (
    &'static str,
    &'static [&'static [u8]],
    &'static [&'static [u8]],
);

pub(super) const EXPIRY: Trial = (
    "write large values (PEXPIREAT)",
    &[b"PEXPIREAT"],
    &[b"9999999999999"],
);
pub(super) const FIELD_EXPIRY: Trial = (
    "write large values (HPEXPIREAT)",
    &[b"HPEXPIREAT"],
    &[b"9999999999999", b"FIELDS", b"1", b"x"],
);

/// Returns the commands that assemble a large value of this kind, to be tried on a key that does not exist.
pub(super) fn commands_of(kind: ValueKind) -> &'static [Trial] {
    match kind {
        ValueKind::String => &[("write large values (APPEND)", &[b"APPEND"], &[b"x"])],
        ValueKind::List => &[("write large values (RPUSH)", &[b"RPUSH"], &[b"x"])],
        ValueKind::Set => &[("write large values (SADD)", &[b"SADD"], &[b"x"])],
        ValueKind::Zset => &[("write large values (ZADD)", &[b"ZADD"], &[b"0", b"x"])],
        ValueKind::Hash => &[("write large values (HSET)", &[b"HSET"], &[b"x", b"y"])],
        ValueKind::Stream => STREAM,
    }
}

const STREAM: &[Trial] = &[
    (
        "write large values (XADD)",
        &[b"XADD"],
        &[b"1-1", b"x", b"y"],
    ),
    ("write large values (XSETID)", &[b"XSETID"], &[b"1-1"]),
    (
        "write large values (XGROUP CREATE)",
        &[b"XGROUP", b"CREATE"],
        &[b"g", b"0"],
    ),
    (
        "write large values (XGROUP SETID)",
        &[b"XGROUP", b"SETID"],
        &[b"g", b"0"],
    ),
    (
        "write large values (XGROUP CREATECONSUMER)",
        &[b"XGROUP", b"CREATECONSUMER"],
        &[b"g", b"c"],
    ),
    (
        "write large values (XCLAIM)",
        &[b"XCLAIM"],
        &[b"g", b"c", b"0", b"1-1", b"JUSTID", b"FORCE"],
    ),
];
