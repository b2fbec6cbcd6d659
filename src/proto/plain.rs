//! Services for clients that know no frames, each on a listener of its own.
//!
//! A client that writes text does not say where it ends, and TCP keeps no
//! boundaries. So this is a rule, not a fact: a newline ends a message, or a
//! short silence, or the end of input. [`Messages`] is that rule; what a
//! message means is for the services to know.

pub mod chat;
pub mod exec;
pub mod file;
mod telnet;

pub use chat::PlainChat;
pub use exec::PlainExec;
pub use file::PlainFile;

use std::time::{Duration, Instant};

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 65_536;

/// After this silence, what has arrived is a message though no newline came.
pub const SILENCE: Duration = Duration::from_millis(20);

/// What a client without frames sent, to be cut into messages.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    /// Where the first message that is not taken yet begins.
    start: usize,
    /// No newline stands between `start` and here.
    searched: usize,
    /// When the last byte came.
    last: Option<Instant>,
    ended: bool,
}

/// One message, without the newline and the carriage return at its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What was sent.
    pub bytes: &'a [u8],
    /// Whether it was cut because it was too long: the next goes on with it.
    pub cut: bool,
}

impl Messages {
    /// Takes bytes that came at `now`. Whatever is complete should be taken
    /// before more is pushed, or the buffer grows.
    pub fn push(&mut self, now: Instant, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
        self.last = Some(now);
    }

    /// The input is at its end.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Nobody listened until `now`: only silence from then on ends a message.
    pub fn listen_from(&mut self, now: Instant) {
        self.last = self.last.map(|_| now);
    }

    /// Whether nothing is left to take.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Takes the next message that is complete at `now`.
    pub fn next(&mut self, now: Instant) -> Option<Message<'_>> {
        if self.is_empty() {
            // An idle client holds no memory.
            *self = Messages { ended: self.ended, ..Messages::default() };
            return None;
        }
        let start = self.start;
        // The last place for the newline of a message that is not too long.
        let limit = self.bytes.len().min(start + MAX_MESSAGE + 1);
        if let Some(at) = self.bytes[self.searched..limit].iter().position(|byte| *byte == b'\n') {
            let end = self.searched + at;
            self.start = end + 1;
            self.searched = self.start;
            let line = &self.bytes[start..end];
            return Some(Message { bytes: line.strip_suffix(b"\r").unwrap_or(line), cut: false });
        }
        self.searched = limit;
        let cut = self.bytes.len() - start > MAX_MESSAGE;
        if !cut && !self.is_silent(now) {
            return None;
        }
        let mut end = start + MAX_MESSAGE;
        if cut {
            // Not inside a character, where these are characters.
            let is_inside = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
            end -= (0..3).take_while(|back| is_inside(self.bytes[end - back])).count();
        } else {
            end = self.bytes.len();
        }
        self.start = end;
        self.searched = end;
        Some(Message { bytes: &self.bytes[start..end], cut })
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.ended || self.last.is_some_and(|last| now >= last + SILENCE)
    }

    /// When silence makes a message of what has arrived.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_empty() { None } else { self.last.map(|last| last + SILENCE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(messages: &mut Messages, now: Instant) -> Vec<(Vec<u8>, bool)> {
        let mut all = Vec::new();
        while let Some(message) = messages.next(now) {
            all.push((message.bytes.to_vec(), message.cut));
        }
        all
    }

    fn texts(messages: &mut Messages, now: Instant) -> Vec<String> {
        all(messages, now).into_iter().map(|(bytes, _)| String::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn a_newline_or_silence_or_the_end_ends_a_message() {
        let start = Instant::now();
        let mut messages = Messages::default();
        assert_eq!(messages.next(start), None);
        assert_eq!(messages.poll_timeout(), None);
        messages.push(start, b"one\r\n\ntwo");
        assert_eq!(texts(&mut messages, start), ["one", ""]);
        messages.push(start + SILENCE / 2, b" more");
        let due = start + SILENCE / 2 + SILENCE;
        assert_eq!(messages.poll_timeout(), Some(due));
        assert_eq!(messages.next(due - Duration::from_nanos(1)), None);
        assert_eq!(texts(&mut messages, due), ["two more"]);
        assert_eq!(messages.poll_timeout(), None);
        messages.push(due, b"last\r");
        messages.end();
        assert_eq!(texts(&mut messages, due), ["last\r"]);
        assert!(messages.is_empty() && messages.bytes.capacity() == 0);
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let now = Instant::now();
        let mut messages = Messages::default();
        let longest = "x".repeat(MAX_MESSAGE);
        messages.push(now, (longest.clone() + "\n").as_bytes());
        assert_eq!(all(&mut messages, now), [(longest.clone().into_bytes(), false)]);
        messages.push(now, (longest + "yz\n").as_bytes());
        let cuts: Vec<_> = all(&mut messages, now).into_iter().map(|(bytes, cut)| (bytes.len(), cut)).collect();
        assert_eq!(cuts, [(MAX_MESSAGE, true), (2, false)]);
        messages.push(now, ("x".repeat(MAX_MESSAGE - 2) + "\u{1f600}\n").as_bytes());
        let cuts: Vec<_> = all(&mut messages, now).into_iter().map(|(bytes, cut)| (bytes.len(), cut)).collect();
        assert_eq!(cuts, [(MAX_MESSAGE - 2, true), (4, false)]);
        messages.push(now, &[0x80; MAX_MESSAGE + 1]);
        messages.end();
        assert_eq!(all(&mut messages, now).len(), 2);
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_come(
            lines in prop::collection::vec("[a-z]{0,12}", 0..20),
            sizes in prop::collection::vec(1usize..9, 1..20),
        ) {
            let now = Instant::now();
            let sent: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let (mut messages, mut left, mut got) = (Messages::default(), sent.as_bytes(), Vec::new());
            for size in sizes.iter().cycle() {
                if left.is_empty() {
                    break;
                }
                let (chunk, rest) = left.split_at((*size).min(left.len()));
                left = rest;
                messages.push(now, chunk);
                got.extend(texts(&mut messages, now));
            }
            prop_assert_eq!(got, lines);
        }
    }
}
