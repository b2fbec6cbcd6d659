//! The open segment: what one author says to one room, encoded once, until it
//! is handed to the members. So a message costs the same however many hear
//! it, and a member costs the same however many messages it hears at once.

use super::Message;
use crate::proto::ConnId;
use crate::wire::frame::LENGTH_BYTES;
use byteorder::{ByteOrder, LittleEndian};
use bytes::Bytes;
use std::sync::Arc;

/// A segment of this many bytes is handed over at once.
pub(super) const FULL: usize = 64 << 10;

/// Whose messages are gathered, and where they are said.
#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) conn: ConnId,
    pub(super) nick: Arc<str>,
    pub(super) room: usize,
    pub(super) name: Arc<str>,
}

/// Encoded live messages of one author in one room. The constant parts of
/// their headers are kept, because encoding them would be most of the work.
#[derive(Debug, Default)]
pub(super) struct Segment {
    speaker: Option<Speaker>,
    /// The header up to `seq`.
    head: Vec<u8>,
    /// The header from there to `size`.
    middle: Vec<u8>,
    /// The header from `at` to `size`, without the time.
    from: Vec<u8>,
    /// The time in `middle`.
    at: Option<u64>,
    frames: Vec<u8>,
}

impl Segment {
    /// Who speaks, and where.
    pub(super) fn speaker(&self) -> Option<&Speaker> {
        self.speaker.as_ref()
    }

    /// Begins to gather; what was gathered before must have been taken.
    pub(super) fn open(&mut self, speaker: Speaker) {
        debug_assert!(self.frames.is_empty());
        self.head.clear();
        self.head.extend_from_slice(b"{\"event\":\"message\",\"room\":");
        push_json(&mut self.head, &speaker.name);
        self.head.extend_from_slice(b",\"seq\":");
        self.from.clear();
        self.from.extend_from_slice(b",\"from\":");
        push_json(&mut self.from, &speaker.nick);
        self.from.extend_from_slice(b",\"size\":");
        self.at = None;
        self.speaker = Some(speaker);
    }

    /// Forgets who speaks.
    pub(super) fn close(&mut self) {
        debug_assert!(self.frames.is_empty());
        self.speaker = None;
    }

    /// Appends a message of the author in the room.
    pub(super) fn append(&mut self, message: &Message) {
        let mut number = itoa::Buffer::new();
        if self.at != Some(message.at) {
            self.at = Some(message.at);
            self.middle.clear();
            self.middle.extend_from_slice(b",\"at\":");
            self.middle.extend_from_slice(number.format(message.at).as_bytes());
            self.middle.extend_from_slice(&self.from);
        }
        let frames = &mut self.frames;
        let start = frames.len();
        frames.extend_from_slice(&[0; LENGTH_BYTES]);
        frames.extend_from_slice(&self.head);
        frames.extend_from_slice(number.format(message.seq).as_bytes());
        frames.extend_from_slice(&self.middle);
        frames.extend_from_slice(number.format(message.body.len()).as_bytes());
        frames.push(b'}');
        let length = frames.len() - start - LENGTH_BYTES;
        let length = i32::try_from(length).expect("a header of two bounded names and three numbers");
        LittleEndian::write_i32(&mut frames[start..], length);
        frames.extend_from_slice(&message.body);
    }

    /// Whether it is time to hand over.
    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= FULL
    }

    /// Takes what is gathered. The buffer stays: a copy into memory of the
    /// right size costs less than new pages, and slow readers pin no more
    /// than they are sent.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.frames.is_empty() {
            return None;
        }
        let frames = Bytes::copy_from_slice(&self.frames);
        self.frames.clear();
        Some(frames)
    }
}

fn push_json(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a text serializes into memory");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;
    use crate::wire::reply::ChatEvent;

    #[test]
    fn frames_are_what_the_typed_event_encodes_to() {
        let mut segment = Segment::default();
        let (room, from) = ("a \"quoted\" r\u{f6}\u{f6}m\\", "n\u{ef}ck\"");
        segment.open(Speaker { conn: ConnId(1), nick: from.into(), room: 0, name: room.into() });
        let mut expected = Vec::new();
        for (seq, at, text) in [(9, 99, "x"), (10, 99, ""), (11, 100, "yy"), (u64::MAX, 100, "z")] {
            let body = Bytes::from(text);
            let event = ChatEvent::Message { room, seq, at, from, size: body.len(), replay: None, id: None };
            expected.extend(frame::encode(&event, &body));
            segment.append(&Message { room: room.into(), seq, at, from: from.into(), body });
        }
        assert_eq!(segment.take().unwrap(), expected);
        assert_eq!(segment.take(), None);
    }
}
