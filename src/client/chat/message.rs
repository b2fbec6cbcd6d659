//! A frame from the server, as far as a conversation needs it.

use crate::client::error::{Result, ServerError};
use crate::client::frame::Frame;
use serde::Deserialize;

/// The header's fields; which of them are there depends on what it is.
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
    /// Copies what is of use out of a receiver's buffers.
    ///
    /// # Errors
    /// `Protocol` where a field has another type than the protocol says.
    pub fn of(frame: &Frame<'_>) -> Result<Incoming> {
        Ok(Incoming { header: frame.fields()?, body: frame.body.to_vec() })
    }

    /// What it costs to keep, in bytes.
    pub fn cost(&self) -> usize {
        size_of::<Incoming>() + self.body.len()
    }

    /// The body as text. The protocol promises UTF-8; what is none is shown
    /// with replacement characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Why the server refused; `None` where it did not.
    pub fn refusal(&self) -> Option<ServerError> {
        (self.header.ok == Some(false)).then(|| ServerError {
            code: self.header.error.clone().unwrap_or_default(),
            message: self.header.message.clone().unwrap_or_else(|| "no reason was given".to_owned()),
        })
    }
}
