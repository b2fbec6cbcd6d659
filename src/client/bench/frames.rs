//! reactord as a [`Peer`]: its frames, read in place.

use super::payload::Payload;
use super::peer::{Peer, Publishing, Received, Taken};
use super::wrong;
use crate::client::error::{ClientError, Result, ServerError};
use crate::wire::frame::{LENGTH_BYTES, encode_header, encode_header_with};
use crate::wire::reply::write_sized_answer;
use crate::wire::{MAX_BODY, MAX_HEADER, PROTOCOL_VERSION};
use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddr;

/// A reactord under load.
#[derive(Debug)]
pub struct Reactord {
    address: SocketAddr,
    token: Option<String>,
    room: String,
    /// The answer's header as the server is expected to write it; kept for its memory.
    expected: Vec<u8>,
}

/// What any frame may have that matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) re: Option<String>,
    pub(super) event: Option<String>,
    pub(super) id: Option<u64>,
    pub(super) ok: Option<bool>,
    pub(super) size: usize,
    pub(super) seq: Option<u64>,
    pub(super) length: Option<u64>,
    pub(super) blake3: Option<String>,
    pub(super) code: Option<i64>,
    error: Option<String>,
    message: Option<String>,
}

impl Header {
    /// What the server says was wrong, as an error.
    pub(super) fn check(&self) -> Result<()> {
        if self.ok != Some(false) && self.event.as_deref() != Some("error") {
            return Ok(());
        }
        let code = self.error.clone().unwrap_or_default();
        let error = ServerError { code, message: self.message.clone().unwrap_or_default() };
        match &self.re {
            Some(cmd) => Err(ClientError::Refused { what: format!("bench: {cmd}"), error }),
            None => Err(ClientError::Fatal(error)),
        }
    }
}

/// The frame at the front of `input`: its header's text and where its body begins.
fn split(input: &[u8]) -> Result<Option<(&[u8], usize)>> {
    let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = i32::from_le_bytes(*length);
    match usize::try_from(length) {
        Ok(n) if (1..=MAX_HEADER).contains(&n) => Ok((rest.len() >= n).then(|| (&rest[..n], LENGTH_BYTES + n))),
        _ => Err(wrong(format_args!("a header length of {length}"))),
    }
}

/// The whole frame at the front of `input`: its header, its body and its length.
fn whole(input: &[u8]) -> Result<Option<(Header, &[u8], usize)>> {
    let Some((text, body)) = split(input)? else { return Ok(None) };
    let header = parse(text)?;
    Ok(input.get(body..body + header.size).map(|bytes| (header, bytes, body + bytes.len())))
}

pub(super) fn parse(text: &[u8]) -> Result<Header> {
    let header: Header = serde_json::from_slice(text).map_err(|e| wrong(format_args!("a header: {e}")))?;
    if header.size > MAX_BODY {
        return Err(wrong(format_args!("a body of {} bytes", header.size)));
    }
    header.check()?;
    Ok(header)
}

fn take_answer(cmd: &str, input: &[u8]) -> Taken {
    let Some((header, _, length)) = whole(input)? else { return Ok(None) };
    match header.re.as_deref() == Some(cmd) {
        true => Ok(Some(length)),
        false => Err(wrong(format_args!("{header:?} where the answer to {cmd} was due"))),
    }
}

impl Reactord {
    /// The one at `address`; messages go to a room of this run's own.
    pub fn new(address: SocketAddr, token: Option<String>) -> Reactord {
        let room = format!("bench-{}", std::process::id());
        Reactord { address, token, room, expected: Vec::new() }
    }

    fn join(&self, out: &mut Vec<u8>) {
        encode_header(&json!({"cmd": "join", "room": self.room, "history": 0}), out);
    }
}

impl Peer for Reactord {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn greet(&mut self, _: usize, out: &mut Vec<u8>) {
        let mut hello = json!({"cmd": "hello", "version": PROTOCOL_VERSION, "client": "reactorctl bench"});
        if let Some(token) = &self.token {
            hello["token"] = token.as_str().into();
        }
        encode_header(&hello, out);
    }

    fn greeted(&mut self, _: usize, input: &[u8]) -> Taken {
        take_answer("hello", input)
    }

    fn echo(&mut self, _: usize, id: u64, payload: Payload<'_>, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        encode_header_with(out, |out| {
            out.extend_from_slice(b"{\"cmd\":\"echo\",\"id\":");
            out.extend_from_slice(digits.format(id).as_bytes());
            out.extend_from_slice(b",\"size\":");
            out.extend_from_slice(digits.format(payload.len()).as_bytes());
            out.push(b'}');
        });
        payload.append(out);
    }

    fn echoed(&mut self, line: usize, id: u64, payload: Payload<'_>, input: &[u8]) -> Taken {
        let Some((text, body)) = split(input)? else { return Ok(None) };
        self.expected.clear();
        write_sized_answer("echo", Some(id), payload.len(), &mut self.expected);
        if text != self.expected {
            // Another order of fields is as right; it only takes longer to see.
            let header = parse(text)?;
            if header.re.as_deref() != Some("echo") || header.id != Some(id) || header.size != payload.len() {
                return Err(wrong(format_args!("{header:?} where echo {id} of connection {line} was due")));
            }
        }
        match input.get(body..body + payload.len()) {
            None => Ok(None),
            Some(bytes) if payload.is(bytes) => Ok(Some(body + bytes.len())),
            Some(_) => Err(wrong(format_args!("echo {id} of connection {line} came back with other bytes"))),
        }
    }
}

impl Publishing for Reactord {
    fn subscribe(&mut self, out: &mut Vec<u8>) {
        self.join(out);
    }

    fn subscribed(&mut self, input: &[u8]) -> Taken {
        take_answer("join", input)
    }

    fn prepare(&mut self, out: &mut Vec<u8>) {
        self.join(out);
    }

    fn ready(&mut self, input: &[u8]) -> Taken {
        self.subscribed(input)
    }

    fn publish(&mut self, payload: Payload<'_>, out: &mut Vec<u8>) {
        let header = json!({"cmd": "say", "room": self.room, "size": payload.len()});
        encode_header(&header, out);
        payload.append(out);
    }

    fn published(&mut self, input: &[u8]) -> Taken {
        // Nothing is answered where nothing is wrong; events about others may come.
        Ok(whole(input)?.map(|(_, _, length)| length))
    }

    fn received(&mut self, input: &[u8]) -> Result<Option<Received>> {
        let Some((header, body, length)) = whole(input)? else { return Ok(None) };
        let is_message = header.event.as_deref() == Some("message");
        let message = is_message.then(|| (header.seq, length - body.len()..length));
        Ok(Some(Received { length, message }))
    }
}
