//! What does a part of a URL say once its percent signs are decoded?

/// Decodes percent signs. `None` if one is not followed by two hex digits, or if the result is not UTF-8.
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

/// The error text for a URL with a control character.
pub(super) const CONTROL: &str = "it has a control character, such as a line break: remove it, whether literal or percent-encoded (%0A)";

/// Returns whether any part of a URL has a control character, literal or percent-encoded. A tab does not count, because
/// some passwords have one.
///
/// No user, password, host, database or file name needs one. A server other than the intended one may take what follows
/// a line break for a command.
pub(super) fn has_control(url: &str) -> bool {
    let mut bytes = Vec::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let [first, tail @ ..] = rest {
        let encoded = match (first, tail) {
            (b'%', [high, low, after @ ..]) => digit(*high)
                .zip(digit(*low))
                .map(|(high, low)| (high * 16 + low, after)),
            _ => None,
        };
        let (byte, after) = encoded.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = after;
    }
    let text = String::from_utf8_lossy(&bytes);
    text.chars().any(|it| it.is_control() && it != '\t')
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
    #[case::line_feed("redis://u:p%0aa@h", true)]
    #[case::carriage_return("redis://u%0D@h", true)]
    #[case::raw("redis://u:p\nq@h", true)]
    #[case::nul("postgres://h/d%00", true)]
    #[case::delete("mongodb://h/?appName=%7f", true)]
    #[case::of_latin_1("redis://u:%C2%85@h", true)]
    #[case::after_a_stray_sign("redis://u:%%0a@h", true)]
    #[case::tab("postgres://u:a%09b@h/d", false)]
    #[case::emoji("postgres://u:%F0%9F%94%91é@h/d", false)]
    #[case::encoded_twice("redis://u:%250a@h", false)]
    #[case::stray("redis://u:100%@h", false)]
    fn a_control_character_is_seen_in_any_part(#[case] url: &str, #[case] expected: bool) {
        assert_eq!(has_control(url), expected);
    }

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
