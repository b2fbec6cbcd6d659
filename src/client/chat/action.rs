//! What is asked of the server.

use crate::client::error::Result;
use crate::client::frame::request;
use serde::Serialize;

/// Something typed that the server must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the protocol's")]
pub enum Action {
    Say {
        room: String,
        text: String,
        /// Whether it is to be shown once it is said.
        echo: bool,
        /// It went out before a connection was lost, under this nick, and
        /// whether it arrived is not known.
        unsure: Option<String>,
    },
    Tell {
        to: String,
        text: String,
    },
    Join(String),
    Leave(String),
    Nick {
        nick: String,
        /// To have our nick back after another one had to do.
        again: bool,
    },
    Who(String),
    Rooms,
    History {
        room: String,
        limit: Option<u64>,
    },
}

/// The fields that any of the requests has.
#[derive(Default, Serialize)]
struct Fields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nick: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

impl Action {
    /// The request with this id; `None` for [`Action::Join`], which depends on
    /// what was seen of the room.
    ///
    /// # Errors
    /// `Local` where it does not fit into a frame.
    pub fn encode(&self, id: u64) -> Option<Result<Vec<u8>>> {
        let none = Fields::default();
        let (cmd, fields, body) = match self {
            Action::Say { room, text, .. } => ("say", Fields { room: Some(room), ..none }, text.as_str()),
            Action::Tell { to, text } => ("tell", Fields { to: Some(to), ..none }, text.as_str()),
            Action::Leave(room) => ("leave", Fields { room: Some(room), ..none }, ""),
            Action::Nick { nick, .. } => ("nick", Fields { nick: Some(nick), ..none }, ""),
            Action::Who(room) => ("who", Fields { room: Some(room), ..none }, ""),
            Action::Rooms => ("rooms", none, ""),
            Action::History { room, limit } => ("history", Fields { room: Some(room), limit: *limit, ..none }, ""),
            Action::Join(_) => return None,
        };
        Some(request(cmd, Some(id), fields, body.as_bytes()))
    }

    /// What it is called where it failed.
    pub fn name(&self) -> String {
        match self {
            Action::Say { text, .. } => format!("\"{}\"", excerpt(text)),
            Action::Tell { to, text } => format!("/msg {to} {}", excerpt(text)),
            Action::Join(room) => format!("/join {room}"),
            Action::Leave(room) => format!("/leave {room}"),
            Action::Nick { nick, .. } => format!("/nick {nick}"),
            Action::Who(room) => format!("/who {room}"),
            Action::Rooms => "/rooms".to_owned(),
            Action::History { .. } => "/history".to_owned(),
        }
    }
}

/// The beginning of a text, for a line about it.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
