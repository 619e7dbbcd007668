//! Which characters of quoted text must not be shown as they are?

/// Replaces a control character.
pub const REPLACEMENT: char = '\u{fffd}';

/// Returns whether a character controls a terminal or the order in which other characters are shown, so that one name
/// could pass for another.
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Unicode's bidirectional controls, and its line and paragraph separators.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Returns a text with every such character replaced.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if steers(c) { REPLACEMENT } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::of_a_terminal('\u{1b}')]
    #[case::of_a_line('\n')]
    #[case::right_to_left_override('\u{202e}')]
    #[case::isolate('\u{2066}')]
    #[case::mark('\u{200f}')]
    #[case::arabic_mark('\u{61c}')]
    #[case::line_separator('\u{2028}')]
    fn a_character_that_steers_what_is_shown_is_replaced(#[case] steering: char) {
        assert_eq!(printable(&format!("a{steering}b")), "a\u{fffd}b");
    }

    #[test]
    fn letters_of_every_script_stay() {
        let text = "a é ж א ب 漢 \u{200d}👩";
        assert_eq!(printable(text), text);
    }
}
