//! What happened in a chat, and how it reads: as a line for people, coloured
//! or not, or as one JSON object.
//!
//! Every text of somebody else's passes through [`crate::text`] here, so that
//! nothing of it can act on a terminal or pass for another's line.

use crate::text::{escape_json, visible, visible_lines};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::borrow::Cow;

/// Something to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are the protocol's")]
pub enum Entry {
    Message {
        room: String,
        seq: u64,
        /// Milliseconds since the Unix epoch.
        at: u64,
        from: String,
        text: String,
        /// Said by us.
        own: bool,
        /// Said before we joined, or while we were away.
        replay: bool,
    },
    /// A word to us.
    Tell {
        from: String,
        at: u64,
        text: String,
    },
    /// A word of ours to one alone.
    Told {
        to: String,
        text: String,
    },
    Joined {
        room: String,
        nick: String,
    },
    Left {
        room: String,
        nick: String,
        reason: String,
    },
    Renamed {
        old: String,
        new: String,
    },
    Members {
        room: String,
        nicks: Vec<String>,
    },
    Rooms {
        rooms: Vec<Room>,
    },
    /// What the program itself has to say.
    Note {
        text: String,
    },
    Error {
        text: String,
    },
}

/// One of all rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[allow(missing_docs, reason = "the fields are the protocol's")]
pub struct Room {
    pub room: String,
    pub members: u64,
}

impl Entry {
    /// A note.
    pub fn note(text: impl Into<String>) -> Entry {
        Entry::Note { text: text.into() }
    }

    /// An error.
    pub fn error(text: impl Into<String>) -> Entry {
        Entry::Error { text: text.into() }
    }
}

/// How entries are written.
#[derive(Clone, Debug)]
pub struct Style {
    /// With colours.
    pub colour: bool,
    /// One line for each entry whatever it holds, the room always named.
    pub plain: bool,
    zone: TimeZone,
}

const DIM: &str = "2";
const RED: &str = "31";
const BOLD: &str = "1";

/// Colours that nicks get, readable on dark and on light.
const NICK_COLOURS: [&str; 6] = ["32", "33", "34", "35", "36", "91"];

/// What the further lines of a message begin with, so that none of them can
/// pass for a message of its own.
const CONTINUED: &str = "      | ";

impl Style {
    /// For a terminal: several lines where a message has several, and colours
    /// unless the environment's NO_COLOR says otherwise (no-color.org).
    pub fn terminal() -> Style {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Style { colour, plain: false, zone: TimeZone::system() }
    }

    /// For programs that read lines.
    pub fn plain() -> Style {
        Style { colour: false, plain: true, zone: TimeZone::system() }
    }

    fn paint<'t>(&self, code: &str, text: &'t str) -> Cow<'t, str> {
        if self.colour { Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }

    fn nick(&self, nick: &str, own: bool) -> String {
        let nick = visible(nick);
        let sum = nick.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let code = if own { BOLD } else { NICK_COLOURS[sum % NICK_COLOURS.len()] };
        self.paint(code, &nick).into_owned()
    }

    /// The local time of day, with the date where that is another than `now`'s.
    pub fn time(&self, at: u64, now: Timestamp) -> String {
        let Ok(at) = i64::try_from(at).map_err(drop).and_then(|ms| Timestamp::from_millisecond(ms).map_err(drop))
        else {
            return "--:--".to_owned();
        };
        let (at, now) = (at.to_zoned(self.zone.clone()), now.to_zoned(self.zone.clone()));
        let form = if at.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
        at.strftime(form).to_string()
    }

    fn now_or(&self, at: Option<u64>) -> String {
        let now = Timestamp::now();
        let time = self.time(at.unwrap_or_else(|| now.as_millisecond().max(0) as u64), now);
        self.paint(DIM, &time).into_owned()
    }

    /// A message's text: on one line, or with its further lines set off.
    fn body(&self, text: &str) -> String {
        let text = text.replace('\t', "    ");
        let text = visible_lines(text.trim_end_matches('\n'));
        match self.plain {
            true => text.replace('\n', " "),
            false => text.replace('\n', &format!("\n{CONTINUED}")),
        }
    }

    /// `room` in brackets, where it must be named.
    fn place(&self, room: &str, current: Option<&str>) -> String {
        match !self.plain && current == Some(room) {
            true => String::new(),
            false => format!("[{}] ", visible(room)),
        }
    }

    fn aside(&self, code: &str, text: &str) -> String {
        self.paint(code, &format!("-- {}", visible(text))).into_owned()
    }

    /// `entry` as lines for people, without the last newline; `current` is the
    /// room that need not be named.
    pub fn line(&self, entry: &Entry, current: Option<&str>) -> String {
        match entry {
            Entry::Message { room, at, from, text, own, .. } => {
                let (place, time) = (self.place(room, current), self.now_or(Some(*at)));
                format!("{place}{time} {}: {}", self.nick(from, *own), self.body(text))
            }
            Entry::Tell { from, at, text } => {
                format!("{} {} tells you: {}", self.now_or(Some(*at)), self.nick(from, false), self.body(text))
            }
            Entry::Told { to, text } => {
                format!("{} you tell {}: {}", self.now_or(None), self.nick(to, false), self.body(text))
            }
            Entry::Joined { room, nick } => self.aside(DIM, &format!("{}{nick} joined", self.place(room, current))),
            Entry::Left { room, nick, reason } => {
                let why = if reason == "left" { String::new() } else { format!(" ({reason})") };
                self.aside(DIM, &format!("{}{nick} left{why}", self.place(room, current)))
            }
            Entry::Renamed { old, new } => self.aside(DIM, &format!("{old} is now {new}")),
            Entry::Members { room, nicks } => self.aside(DIM, &format!("in {room}: {}", nicks.join(", "))),
            Entry::Rooms { rooms } if rooms.is_empty() => self.aside(DIM, "there are no rooms"),
            Entry::Rooms { rooms } => {
                let lines: Vec<_> =
                    rooms.iter().map(|r| self.aside(DIM, &format!("{} ({})", r.room, r.members))).collect();
                lines.join("\n")
            }
            Entry::Note { text } => self.aside(DIM, text),
            Entry::Error { text } => self.aside(RED, text),
        }
    }
}

/// `entry` as one JSON object that a terminal can show.
pub fn json(entry: &Entry) -> String {
    let json = serde_json::to_string(entry).expect("an entry is plain data");
    escape_json(&json).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(plain: bool, colour: bool) -> Style {
        Style { colour, plain, zone: TimeZone::UTC }
    }

    fn message(from: &str, text: &str) -> Entry {
        let (room, from, text) = ("lobby".to_owned(), from.to_owned(), text.to_owned());
        Entry::Message { room, seq: 1, at: 3_600_000, from, text, own: false, replay: false }
    }

    #[test]
    fn a_message_has_a_time_and_its_room_where_that_is_another() {
        let terminal = style(false, false);
        assert_eq!(terminal.line(&message("bob", "hi"), Some("lobby")), "1970-01-01 01:00 bob: hi");
        assert_eq!(terminal.line(&message("bob", "hi"), Some("x")), "[lobby] 1970-01-01 01:00 bob: hi");
        assert_eq!(style(true, false).line(&message("bob", "hi"), Some("lobby")), "[lobby] 1970-01-01 01:00 bob: hi");
    }

    #[test]
    fn todays_messages_have_no_date_and_odd_times_are_no_panic() {
        let style = style(false, false);
        let now = Timestamp::from_millisecond(86_399_000).unwrap();
        assert_eq!(style.time(60_000, now), "00:01");
        assert_eq!(style.time(86_400_000, now), "1970-01-02 00:00");
        assert_eq!(style.time(u64::MAX, now), "--:--");
        assert_eq!(style.time(i64::MAX as u64, now), "--:--");
    }

    #[test]
    fn nothing_of_anothers_text_acts_or_passes_for_a_line() {
        let evil = message("b\u{1b}[2Job", "a\u{1b}]0;x\u{7}\r\u{202e}b\n12:00 eve: c\n\n");
        let shown = style(false, false).line(&evil, Some("lobby"));
        assert_eq!(shown, "1970-01-01 01:00 b[2Job: a]0;xb\n      | 12:00 eve: c");
        assert_eq!(style(true, false).line(&evil, None).lines().count(), 1);
        let left = Entry::Left { room: "r\u{9b}".into(), nick: "n\nx".into(), reason: "\u{1b}c".into() };
        assert_eq!(style(false, false).line(&left, None), "-- [r] nx left (c)");
        let members = Entry::Members { room: "r".into(), nicks: vec!["a\u{7}".into(), "漢字".into()] };
        assert_eq!(style(false, false).line(&members, None), "-- in r: a, 漢字");
    }

    #[test]
    fn colours_come_only_where_they_are_wanted() {
        let painted = style(false, true).line(&message("bob", "hi"), Some("lobby"));
        assert!(painted.starts_with("\x1b[2m") && painted.ends_with("\x1b[0m: hi"), "{painted:?}");
        assert!(!style(false, false).line(&Entry::error("x"), None).contains('\x1b'));
    }

    #[test]
    fn json_keeps_the_text_and_hides_what_acts() {
        let line = json(&message("bob", "a\u{202e}\n"));
        assert!(line.is_ascii(), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["event"], &value["text"]), (&"message".into(), &"a\u{202e}\n".into()));
    }
}
