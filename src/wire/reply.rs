//! What the server sends: answers and events, as structs that serialize into
//! a header. Bodies travel beside them.
//!
//! The client reads the same structs back, so they deserialize too.

use super::error::{ErrorCode, Refusal};
use serde::{Deserialize, Serialize};

/// A positive answer: `{"re":CMD,"id":ID,"ok":true,...}` with the fields of `T`.
#[derive(Debug, Serialize)]
pub struct Answer<'a, T: Serialize> {
    re: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    ok: bool,
    #[serde(flatten)]
    fields: T,
}

/// No fields beyond those that every answer has.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plain {}

impl<'a, T: Serialize> Answer<'a, T> {
    /// The answer to `cmd` with `id`.
    pub fn new(cmd: &'a str, id: Option<u64>, fields: T) -> Self {
        Answer { re: cmd, id, ok: true, fields }
    }
}

/// A refusal: `{"re":CMD,"id":ID,"ok":false,"error":CODE,"message":TEXT}`.
#[derive(Debug, Serialize)]
pub struct Refused<'a> {
    re: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    ok: bool,
    error: ErrorCode,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggestion: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<&'a [i64]>,
}

impl<'a> Refused<'a> {
    /// The refusal of `cmd` (`None` where that could not be read) with `id`.
    pub fn new(cmd: Option<&'a str>, id: Option<u64>, refusal: &'a Refusal) -> Self {
        Refused {
            re: cmd,
            id,
            ok: false,
            error: refusal.code,
            message: &refusal.message,
            suggestion: None,
            versions: None,
        }
    }

    /// Adds a nick that is free.
    pub fn with_suggestion(mut self, nick: &'a str) -> Self {
        self.suggestion = Some(nick);
        self
    }

    /// Adds the protocol versions that the server speaks.
    pub fn with_versions(mut self, versions: &'a [i64]) -> Self {
        self.versions = Some(versions);
        self
    }
}

/// The body's length, where an answer has nothing else.
#[derive(Debug, Serialize, Deserialize)]
pub struct Size {
    /// Bytes of the body.
    pub size: usize,
}

/// Appends the header of a positive answer that has a body and nothing else,
/// as [`Answer`] with [`Size`] would; `cmd` needs no escapes. Written by hand
/// because for a small request the answer's header is much of the work.
pub fn write_sized_answer(cmd: &'static str, id: Option<u64>, size: usize, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"{\"re\":\"");
    out.extend_from_slice(cmd.as_bytes());
    if let Some(id) = id {
        out.extend_from_slice(b"\",\"id\":");
        out.extend_from_slice(digits.format(id).as_bytes());
        out.extend_from_slice(b",\"ok\":true,\"size\":");
    } else {
        out.extend_from_slice(b"\",\"ok\":true,\"size\":");
    }
    out.extend_from_slice(digits.format(size).as_bytes());
    out.push(b'}');
}

/// The answer to `hello`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Welcome<'a> {
    pub version: i64,
    pub server: &'a str,
    pub nick: &'a str,
    pub services: &'a [&'a str],
    pub max_header: usize,
    pub max_body: usize,
    pub features: [&'a str; 0],
}

/// The last words before the server ends a connection.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "error")]
pub struct FatalError<'a> {
    /// The code.
    pub error: ErrorCode,
    /// The sentence.
    pub message: &'a str,
}

/// The answer to `join`; the body holds the members.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Joined<'a> {
    pub room: &'a str,
    pub seq: u64,
    pub epoch: &'a str,
    pub count: usize,
    pub size: usize,
}

/// The answer to `say`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Said<'a> {
    pub room: &'a str,
    pub seq: u64,
    pub at: u64,
}

/// The answer to `exec`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Started {
    pub pid: u32,
    pub job: u64,
}

/// Where a chat event comes from and what happened; see `docs/PROTOCOL.md`, Chat.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub enum ChatEvent<'a> {
    Message {
        room: &'a str,
        seq: u64,
        at: u64,
        from: &'a str,
        size: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        replay: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    Tell {
        from: &'a str,
        at: u64,
        size: usize,
    },
    Joined {
        room: &'a str,
        nick: &'a str,
    },
    Left {
        room: &'a str,
        nick: &'a str,
        reason: LeaveReason,
    },
    Renamed {
        old: &'a str,
        new: &'a str,
    },
}

/// Why somebody is no longer in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words of docs/PROTOCOL.md")]
pub enum LeaveReason {
    Left,
    Disconnected,
    SlowConsumer,
    Kicked,
    Timeout,
    ShuttingDown,
}

/// What a running command or transfer sends; see `docs/PROTOCOL.md`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub enum StreamEvent<'a> {
    Stdout {
        id: u64,
        size: usize,
    },
    Stderr {
        id: u64,
        size: usize,
    },
    Exit {
        id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    },
    Data {
        id: u64,
        size: usize,
    },
    End {
        id: u64,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<ErrorCode>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
        length: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sized_answer_written_by_hand_is_the_one_that_serde_writes() {
        for (id, size) in [(None, 0), (Some(0), 1), (Some(crate::wire::MAX_ID), crate::wire::MAX_BODY)] {
            let mut out = Vec::new();
            write_sized_answer("echo", id, size, &mut out);
            assert_eq!(out, serde_json::to_vec(&Answer::new("echo", id, Size { size })).unwrap());
        }
    }

    #[test]
    fn answers_and_events_look_as_the_protocol_says() {
        let json = |v: &dyn erased::Json| v.json();
        assert_eq!(json(&Answer::new("echo", Some(1), Size { size: 3 })), r#"{"re":"echo","id":1,"ok":true,"size":3}"#);
        assert_eq!(json(&Answer::new("leave", None, Plain {})), r#"{"re":"leave","ok":true}"#);
        let refusal = Refusal::new(ErrorCode::NotFound, "no such room");
        assert_eq!(
            json(&Refused::new(None, None, &refusal)),
            r#"{"re":null,"ok":false,"error":"not_found","message":"no such room"}"#
        );
        assert_eq!(
            json(&FatalError { error: ErrorCode::BadFrame, message: "x" }),
            r#"{"event":"error","error":"bad_frame","message":"x"}"#
        );
        assert_eq!(
            json(&ChatEvent::Message { room: "r", seq: 1, at: 2, from: "n", size: 3, replay: None, id: None }),
            r#"{"event":"message","room":"r","seq":1,"at":2,"from":"n","size":3}"#
        );
        assert_eq!(
            json(&StreamEvent::Exit { id: 1, code: Some(3), signal: None, reason: None }),
            r#"{"event":"exit","id":1,"code":3}"#
        );
    }

    mod erased {
        pub(super) trait Json {
            fn json(&self) -> String;
        }
        impl<T: serde::Serialize> Json for T {
            fn json(&self) -> String {
                serde_json::to_string(self).unwrap()
            }
        }
    }
}
