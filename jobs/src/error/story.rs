//! An error and its causes as text of bounded length.

/// Returns an error and all its causes on one line, separated by `: `.
///
/// A cause is left out if the text before it already ends with it. Lines within one message are separated by ` | `.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let story = story(error);
    let lines = story.lines().map(str::trim).filter(|line| !line.is_empty());
    told(lines.collect::<Vec<_>>().join(" | "))
}

/// Returns the same text, with the line breaks of the messages.
#[must_use]
pub fn story(error: &dyn std::error::Error) -> String {
    let mut story = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        let text = text.trim();
        story.truncate(story.trim_end().len());
        if !story.ends_with(text) {
            story.push_str(": ");
            story.push_str(text);
        }
        next = cause.source();
    }
    story
}

/// The most bytes of an error that are shown: its text quotes servers and tools, and ends up in tables, logs and
/// answers.
pub const MOST_TOLD: usize = 8 * 1024;

/// Returns a text, shortened to its beginning and its end if it has more than [`MOST_TOLD`] bytes.
#[must_use]
pub fn told(text: String) -> String {
    /// Room for the words between the two parts.
    const CUT: usize = 64;
    if text.len() <= MOST_TOLD {
        return text;
    }
    let (begin, end) = ((MOST_TOLD - CUT) * 3 / 4, (MOST_TOLD - CUT) / 4);
    let begin = text.floor_char_boundary(begin);
    let end = text.ceil_char_boundary(text.len() - end);
    let (head, tail) = (&text[..begin], &text[end..]);
    format!("{head} … [{} bytes left out] … {tail}", end - begin)
}
