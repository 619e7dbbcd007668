//! What does a part of a URL say, its percent signs decoded?

/// Decodes percent signs. `None` where one is followed by no two digits, or what they make is no text.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'%', [high, low, after @ ..]) => (digit(*high)? * 16 + digit(*low)?, after),
            (b'%', _) => return None,
            _ => (*first, tail),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex)
        .to_digit(16)
        .and_then(|it| u8::try_from(it).ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("a+b", Some("a+b"))]
    #[case::encoded("p%3As%c3%A9", Some("p:sé"))]
    #[case::cut("p%3", None)]
    #[case::no_digits("p%zz", None)]
    #[case::no_text("%ff", None)]
    fn percent_signs_decode_or_are_refused(#[case] text: &str, #[case] decoded: Option<&str>) {
        assert_eq!(decode(text).as_deref(), decoded);
    }
}
