//! One frame as a client sees it: requests to bytes, answers and events from
//! them. It reads and writes no socket.

use crate::client::error::{ClientError, Result, ServerError};
use crate::wire::frame::encode_header;
use crate::wire::{self, ErrorCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The fields that a frame of any kind may have.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Envelope {
    /// The command that this answers.
    #[serde(default)]
    pub re: Option<String>,
    /// The event's name.
    #[serde(default)]
    pub event: Option<String>,
    /// The request that this belongs to.
    #[serde(default)]
    pub id: Option<u64>,
    /// Whether the request succeeded.
    #[serde(default)]
    pub ok: Option<bool>,
    /// Bytes of the body.
    #[serde(default)]
    pub(super) size: usize,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// One frame of the server's, borrowed from the receiver's buffers.
#[derive(Debug)]
pub struct Frame<'a> {
    /// What every frame may have.
    pub envelope: Envelope,
    pub(super) header: &'a [u8],
    /// The raw bytes after the header.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Whether this is an event called `name`.
    pub fn is_event(&self, name: &str) -> bool {
        self.envelope.event.as_deref() == Some(name)
    }

    /// Whether this answers `cmd`.
    pub fn answers(&self, cmd: &str) -> bool {
        self.envelope.re.as_deref() == Some(cmd)
    }

    /// What the server says was wrong, where it does.
    pub fn refusal(&self) -> Option<ServerError> {
        if self.envelope.ok != Some(false) && !self.is_event("error") {
            return None;
        }
        let code = self.envelope.error.clone().unwrap_or_else(|| ErrorCode::Io.as_str().to_owned());
        let message = self.envelope.message.clone().unwrap_or_else(|| "no reason was given".to_owned());
        Some(ServerError { code, message })
    }

    /// The header's other fields as a `T`.
    pub fn fields<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.header).map_err(|e| ClientError::Protocol(format!("a header: {e}")))
    }
}

/// A JSON body as a `T`; `what` names it in the error.
pub fn json_body<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| ClientError::Protocol(format!("the body of {what}: {e}")))
}

/// No fields, or none that matter.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Nothing {}

#[derive(Serialize)]
struct Request<'a, T> {
    cmd: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    #[serde(flatten)]
    fields: T,
}

/// Appends a request to `out`, body included; `max` is the longest header.
///
/// # Errors
/// `Local` where what the user gave does not fit into a header.
pub(super) fn encode_request(
    cmd: &str,
    id: Option<u64>,
    fields: impl Serialize,
    body: &[u8],
    max: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let size = (!body.is_empty()).then_some(body.len());
    let header = serde_json::value::to_raw_value(&Request { cmd, id, size, fields })
        .map_err(|e| ClientError::Local(format!("{cmd}: cannot be written as JSON: {e}")))?;
    let length = header.get().len();
    if length > max {
        return Err(ClientError::Local(format!(
            "{cmd}: the request is {length} bytes long; at most {max} can be sent"
        )));
    }
    encode_header(&header, out);
    out.extend_from_slice(body);
    Ok(())
}

/// One request as bytes, for who sends them later.
///
/// # Errors
/// `Local` where what the user gave does not fit into a header.
pub fn request(cmd: &str, id: Option<u64>, fields: impl Serialize, body: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len() + 128);
    encode_request(cmd, id, fields, body, wire::MAX_HEADER, &mut out)?;
    Ok(out)
}
