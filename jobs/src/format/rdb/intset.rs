//! The members of an intset: sorted integers of one width.

use super::packed::signed;

/// Parses an intset: width (4 bytes, little-endian), count (4), integers.
pub(super) fn members(bytes: &[u8]) -> Result<impl Iterator<Item = i64>, &'static str> {
    let damaged = "a damaged intset";
    let ([a, b, c, d, count @ ..], integers) = bytes.split_first_chunk::<8>().ok_or(damaged)?;
    let width = match u32::from_le_bytes([*a, *b, *c, *d]) {
        2 => 2_usize,
        4 => 4,
        8 => 8,
        _ => return Err("an intset of an unknown width"),
    };
    let count = usize::try_from(u32::from_le_bytes(*count)).map_err(|_| damaged)?;
    if count.checked_mul(width) != Some(integers.len()) {
        return Err("an intset whose length is not the one that it states");
    }
    Ok(integers.chunks_exact(width).map(signed))
}
