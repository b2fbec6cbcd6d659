//! Nicks and rooms: which names are allowed and which are the same.
//!
//! A name is kept in Unicode normalization form C (UAX #15), so that the same
//! letters are the same bytes however they were typed. Nicks compare by full
//! case folding on top of that (Unicode Standard, section 3.13); room names
//! compare exactly. Who bears which name is for the rooms to know.

use crate::wire::error::{ErrorCode, Refusal};
use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, WhiteSpace};
use icu_properties::{CodePointMapData, CodePointSetData};

/// The longest nick, in characters (Unicode scalar values).
pub const MAX_NICK: usize = 32;

/// The longest name of a room, in characters.
pub const MAX_ROOM: usize = 64;

/// The nick of the server's console, refused to everybody else.
pub const OPERATOR: &str = "operator";

/// A nick that is allowed, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nick(String);

impl Nick {
    /// Takes `text` as a nick, or says as `invalid_name` why it is none.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        checked(text, "nick", MAX_NICK).map(Nick)
    }

    /// The nick of the server's console.
    pub fn operator() -> Self {
        Nick(OPERATOR.to_owned())
    }

    /// The nick that the server gives to the `n`th guest.
    pub fn guest(n: u64) -> Self {
        Nick(format!("guest-{n}"))
    }

    /// The nick as it is shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What nicks are compared by.
    pub fn key(&self) -> String {
        nick_key(&self.0)
    }

    /// This nick with `-n` at its end in place of such a number that it has
    /// already, shortened where that would be too long.
    pub fn numbered(&self, n: u64) -> Self {
        let suffix = format!("-{n}");
        let stem = self.0.trim_end_matches(|c: char| c.is_ascii_digit());
        let stem = match stem.strip_suffix('-') {
            Some(stem) if stem.len() < self.0.len() && !stem.is_empty() => stem,
            _ => &self.0,
        };
        let stem: String = stem.chars().take(MAX_NICK - suffix.len()).collect();
        Nick(stem.trim_end().to_owned() + &suffix)
    }
}

/// What nicks are compared by: equal for those that count as one.
pub fn nick_key(nick: &str) -> String {
    nfc(&CaseMapper::new().fold_string(&nfc(nick)))
}

/// The name of a room that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomName(String);

impl RoomName {
    /// Takes `text` as a room's name, or says as `invalid_name` why it is none.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        checked(text, "room", MAX_ROOM).map(RoomName)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `text` in normalization form C, in which names are kept.
pub fn nfc(text: &str) -> String {
    ComposingNormalizerBorrowed::new_nfc().normalize(text).into_owned()
}

/// At most as much of `name` as a name may be long, for an error message.
pub fn excerpt(name: &str) -> String {
    name.chars().take(MAX_ROOM).filter(|c| !is_hidden(*c)).collect()
}

fn checked(text: &str, kind: &str, max: usize) -> Result<String, Refusal> {
    let invalid = |why: String| Refusal::new(ErrorCode::InvalidName, format!("{kind}: {why}"));
    // No character stands for more than four once decomposed (UAX #15), so a
    // longer text cannot be composed to a name of allowed length.
    let name = if text.chars().nth(4 * max).is_some() { text.to_owned() } else { nfc(text) };
    let length = name.chars().count();
    if length == 0 || length > max {
        return Err(invalid(format!("{length} characters, expected 1 to {max}")));
    }
    if let Some(hidden) = name.chars().find(|c| is_hidden(*c)) {
        let code = u32::from(hidden);
        return Err(invalid(format!(
            "U+{code:04X} is a control, invisible or unassigned character; expected visible ones only"
        )));
    }
    let space = CodePointSetData::new::<WhiteSpace>();
    if name.chars().next().is_some_and(|c| space.contains(c)) || name.chars().last().is_some_and(|c| space.contains(c))
    {
        return Err(invalid("a space at an end; expected a visible character there".to_owned()));
    }
    Ok(name)
}

/// Whether a reader could not see `c`, or not know what to see: controls,
/// formats (the bidirectional ones among them), line and paragraph separators,
/// what is ignored by default, the blank of Braille, and characters that
/// Unicode has not assigned or leaves to private agreement.
fn is_hidden(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, Surrogate, Unassigned};
    const BRAILLE_BLANK: char = '\u{2800}';
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    c == BRAILLE_BLANK
        || matches!(
            category,
            Control | Format | LineSeparator | ParagraphSeparator | PrivateUse | Surrogate | Unassigned
        )
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> bool {
        matches!(Nick::parse(text), Err(Refusal { code: ErrorCode::InvalidName, .. }))
    }

    #[test]
    fn nicks_that_look_or_sound_alike_are_the_same() {
        for (a, b) in [
            ("Anna", "aNNA"),
            ("stra\u{df}e", "STRASSE"),
            ("Jos\u{e9}", "jose\u{301}"),
            ("\u{212b}ngstr\u{f6}m", "\u{e5}ngstr\u{d6}m"),
            ("\u{3a3}\u{3af}\u{3c3}\u{3c5}\u{3c6}\u{3bf}\u{3c2}", "\u{3c3}\u{3af}\u{3c3}\u{3c5}\u{3c6}\u{3bf}\u{3c3}"),
        ] {
            assert_eq!(Nick::parse(a).unwrap().key(), Nick::parse(b).unwrap().key(), "{a} {b}");
        }
        assert_ne!(Nick::parse("anna").unwrap().key(), Nick::parse("\u{e4}nna").unwrap().key());
    }

    #[test]
    fn a_nick_is_shown_composed_and_a_room_is_compared_by_that() {
        assert_eq!(Nick::parse("Jose\u{301}").unwrap().as_str(), "Jos\u{e9}");
        assert_eq!(RoomName::parse("e\u{301}").unwrap(), RoomName::parse("\u{e9}").unwrap());
        assert_ne!(RoomName::parse("Lobby").unwrap(), RoomName::parse("lobby").unwrap());
    }

    #[test]
    fn lengths_count_characters_after_composition() {
        assert!(Nick::parse(&"\u{1f600}".repeat(MAX_NICK)).is_ok());
        assert!(Nick::parse(&"e\u{301}".repeat(MAX_NICK)).is_ok());
        assert!(refused(&"x".repeat(MAX_NICK + 1)) && refused("") && refused(&"e\u{301}".repeat(60_000)));
        assert!(RoomName::parse(&"x".repeat(MAX_ROOM)).is_ok() && RoomName::parse(&"x".repeat(MAX_ROOM + 1)).is_err());
    }

    #[test]
    fn what_cannot_be_seen_is_refused() {
        for bad in [
            "a\0b",
            "a\nb",
            "\x1b[31m",
            "a\x7f",
            "a\u{85}b",
            "a\u{200b}b",
            "a\u{200d}b",
            "a\u{ad}b",
            "\u{202e}abc",
            "a\u{2066}b",
            "a\u{feff}",
            "\u{3164}",
            "a\u{fe0f}",
            "\u{2800}",
            "\u{e000}",
            "\u{fdd0}",
            "a\u{2028}b",
            "\u{e0041}",
        ] {
            assert!(refused(bad), "{bad:?}");
        }
    }

    #[test]
    fn spaces_are_allowed_inside_only() {
        assert!(Nick::parse("two words").is_ok());
        for bad in [" a", "a ", "\u{a0}a", "a\u{3000}", " "] {
            assert!(refused(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_numbered_nick_replaces_its_number_and_fits() {
        let numbered = |text: &str, n| Nick::parse(text).unwrap().numbered(n).0;
        assert_eq!(numbered("anna", 2), "anna-2");
        assert_eq!(numbered("anna-2", 3), "anna-3");
        assert_eq!(numbered("r2d2", 2), "r2d2-2");
        assert_eq!(numbered("-7", 2), "-7-2");
        assert_eq!(numbered(&"x".repeat(32), 10), "x".repeat(29) + "-10");
        assert_eq!(numbered(&("x".repeat(29) + " yz"), 2), "x".repeat(29) + "-2");
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_accepted_again_unchanged(text in "\\PC{0,40}") {
            if let Ok(nick) = Nick::parse(&text) {
                prop_assert_eq!(Nick::parse(nick.as_str()).unwrap(), nick.clone());
                prop_assert_eq!(nick_key(&nick.key()), nick.key());
                prop_assert!(Nick::parse(nick.numbered(12).as_str()).is_ok());
            }
        }
    }
}
