//! A frame of the server's, as far as a conversation needs it.

use super::entry::Entry;
use crate::wire::{FrameDecoder, Limits, Piece};
use serde::Deserialize;

/// A header's fields; which of them are there depends on what it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Header {
    pub re: Option<String>,
    pub event: Option<String>,
    pub id: Option<u64>,
    pub ok: Option<bool>,
    pub error: Option<String>,
    pub message: Option<String>,
    pub suggestion: Option<String>,
    pub room: Option<String>,
    pub seq: Option<u64>,
    pub at: Option<u64>,
    pub from: Option<String>,
    pub nick: Option<String>,
    pub old: Option<String>,
    pub new: Option<String>,
    pub reason: Option<String>,
    pub epoch: Option<String>,
    pub count: Option<u64>,
    pub replay: Option<bool>,
    /// Bytes of the body.
    pub size: usize,
}

/// One frame, owned.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    /// Its fields.
    pub header: Header,
    /// The raw bytes after them.
    pub body: Vec<u8>,
}

impl Incoming {
    /// What it costs to keep, in bytes.
    pub fn cost(&self) -> usize {
        size_of::<Incoming>() + self.body.len()
    }

    /// The body as text. The protocol promises UTF-8; what is none is shown
    /// with replacement characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The event as an entry; `nick` is ours. `None` for an answer, an event of
    /// another kind, and one that lacks what it should have.
    pub fn entry(&self, nick: &str) -> Option<Entry> {
        let header = self.header.clone();
        Some(match header.event.as_deref()? {
            "message" => {
                let from = header.from?;
                let (own, replay) = (from == nick, header.replay == Some(true));
                let at = header.at.unwrap_or(0);
                Entry::Message { room: header.room?, seq: header.seq?, at, from, text: self.text(), own, replay }
            }
            "tell" => Entry::Tell { from: header.from?, at: header.at.unwrap_or(0), text: self.text() },
            "joined" => Entry::Joined { room: header.room?, nick: header.nick? },
            "left" => Entry::Left { room: header.room?, nick: header.nick?, reason: header.reason.unwrap_or_default() },
            "renamed" => Entry::Renamed { old: header.old?, new: header.new? },
            _ => return None,
        })
    }

    /// The frames that `bytes` are, whole ones all; what is none ends them.
    pub fn all(mut bytes: &[u8]) -> Vec<Incoming> {
        let mut decoder = FrameDecoder::new(Limits::FULL);
        let mut frames: Vec<Incoming> = Vec::new();
        while let Ok(Some(piece)) = decoder.next(&mut bytes) {
            match piece {
                Piece::Header(header) => {
                    let Ok(header) = serde_json::from_slice::<Header>(header) else { break };
                    decoder.expect_body(header.size);
                    frames.push(Incoming { header, body: Vec::new() });
                }
                Piece::Body(body) => {
                    if let Some(last) = frames.last_mut() {
                        last.body.extend_from_slice(body);
                    }
                }
                Piece::End => {}
            }
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::encode;
    use crate::wire::reply::{ChatEvent, LeaveReason};

    #[test]
    fn what_the_server_writes_reads_as_entries() {
        let message =
            ChatEvent::Message { room: "r", seq: 7, at: 9, from: "me", size: 2, replay: Some(true), id: Some(1) };
        let left = ChatEvent::Left { room: "r", nick: "n", reason: LeaveReason::SlowConsumer };
        let bytes = [encode(&message, b"hi"), encode(&left, b"")].concat();
        let entries: Vec<_> = Incoming::all(&bytes).iter().filter_map(|frame| frame.entry("me")).collect();
        let (room, from, text) = ("r".to_owned(), "me".to_owned(), "hi".to_owned());
        let message = Entry::Message { room: room.clone(), seq: 7, at: 9, from, text, own: true, replay: true };
        let left = Entry::Left { room, nick: "n".into(), reason: "slow_consumer".into() };
        assert_eq!(entries, [message, left]);
    }

    #[test]
    fn what_is_no_event_is_no_entry() {
        for header in [r#"{"re":"say"}"#, r#"{"event":"joined","room":"r"}"#, r#"{"event":"new"}"#] {
            let header = serde_json::from_str(header).unwrap();
            assert_eq!(Incoming { header, body: Vec::new() }.entry("me"), None);
        }
        assert!(Incoming::all(b"\xff\xff\xff\xff").is_empty());
    }
}
