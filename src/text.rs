//! Text from a server, made fit for a terminal.
//!
//! Names and messages may hold escape sequences, and characters that are not
//! seen or that turn the reading direction round. None of those reaches a
//! terminal. A command's own output is not text in this sense: it passes as it
//! came.

use icu_properties::props::{
    BidiControl, BinaryProperty, DefaultIgnorableCodePoint, EnumeratedProperty, GeneralCategory,
};
use std::borrow::Cow;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether `c` must not reach a terminal: control characters, line and
/// paragraph separators, format characters, bidirectional controls and what
/// Unicode calls default-ignorable (UAX #44).
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(
        GeneralCategory::for_char(c),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::Surrogate
    ) || BidiControl::for_char(c)
        || DefaultIgnorableCodePoint::for_char(c)
}

/// `text` without what [`is_hidden`].
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.contains(is_hidden) { Cow::Owned(text.replace(is_hidden, "")) } else { Cow::Borrowed(text) }
}

/// [`visible`] text that keeps its line breaks, for messages of several lines.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| c != '\n' && is_hidden(c);
    if text.contains(hidden) { Cow::Owned(text.replace(hidden, "")) } else { Cow::Borrowed(text) }
}

/// JSON with every hidden character written as an escape: the value is the
/// same, and a terminal sees ASCII. In JSON such characters stand only inside
/// strings, apart from line breaks, which a one-line object does not have.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_hidden) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_hidden(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// `text` in exactly `columns` columns: cut with "..." or filled with spaces.
pub fn fit(text: &str, columns: usize) -> String {
    let text = visible(text);
    let width = text.width();
    if width <= columns {
        return format!("{text}{}", " ".repeat(columns - width));
    }
    let room = columns.saturating_sub(3);
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > room {
            break;
        }
        used += w;
        out.push(c);
    }
    out.push_str(&"...".chars().take(columns).collect::<String>());
    out.push_str(&" ".repeat(columns.saturating_sub(used + 3)));
    out
}

/// Milliseconds since the Unix epoch as a date and a time of day in UTC.
pub fn utc(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_stays_and_what_is_not_goes() {
        assert_eq!(visible("plain, 漢字, naïve"), "plain, 漢字, naïve");
        assert_eq!(visible("\u{1b}]0;title\u{7}x"), "]0;titlex");
        assert_eq!(
            visible("a\u{202e}b\u{2066}c\u{200b}d\u{feff}e\u{2028}f\u{9b}g\u{ad}h\u{e0041}i\u{7f}"),
            "abcdefghi"
        );
        assert_eq!(visible_lines("a\n\u{1b}b\r\n"), "a\nb\n");
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = "a\u{202e}b\u{e0041}\u{9b}\n";
        let json = serde_json::to_string(value).unwrap();
        let escaped = escape_json(&json);
        assert!(!escaped.contains(is_hidden), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), value);
    }

    #[test]
    fn fitting_counts_columns_and_not_characters() {
        assert_eq!(fit("漢字", 6), "漢字  ");
        assert_eq!(fit("漢字漢字", 6), "漢... ");
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdefg", 6), "abc...");
        assert_eq!(fit("abc", 2), "..");
    }

    #[test]
    fn times_are_in_utc_and_odd_ones_are_no_panic() {
        assert_eq!(utc(0), "1970-01-01 00:00:00Z");
        assert_eq!(utc(1_700_000_000_123), "2023-11-14 22:13:20Z");
        assert_eq!(utc(i64::MAX), "-");
    }
}
