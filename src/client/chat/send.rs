//! Puts one file on the server, over a connection of its own, so that a large
//! one does not hold up the conversation.

use crate::client::config::Config;
use crate::client::connection::Connection;
use crate::client::error::{ClientError, Result};
use crate::client::files::names::local_name;
use crate::client::frame::Nothing;
use crate::wire::MAX_DATA;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;

#[derive(Serialize)]
struct Put<'a> {
    path: &'a str,
    length: u64,
    mode: u32,
}

#[derive(Serialize)]
struct End<'a> {
    blake3: &'a str,
}

#[derive(Deserialize)]
struct Stored {
    path: String,
}

/// Puts the local file `path` into the served root under its own name, which
/// is given back. A file that is there already is left alone.
///
/// # Errors
/// `Local` where the file cannot be read, `Refused` where the server does not
/// take it, and those of the connection.
pub fn send(config: &Config, path: &str) -> Result<String> {
    let name = local_name(path)?.ok_or_else(|| ClientError::Usage(format!("{path} names no file")))?;
    let failed = |e: io::Error| ClientError::local(format_args!("cannot read {path}"), e);
    // A FIFO in a file's place must not make us wait for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?);
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(ClientError::Local(format!("{path} is no regular file")));
    }
    let what = format!("/send {path}");
    let mut connection = Connection::open(&Config { nick: None, ..config.clone() })?;
    let put = Put { path: name, length: metadata.len(), mode: metadata.permissions().mode() & 0o777 };
    let (Nothing {}, id) = connection.begin(&what, "put", put)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; MAX_DATA];
    let mut left = metadata.len();
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(MAX_DATA).min(MAX_DATA);
        let piece = &mut buffer[..length];
        file.read_exact(piece).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ClientError::Local(format!("{path} shrank while it was sent")),
            _ => failed(e),
        })?;
        hasher.update(piece);
        connection.send("data", Some(id), Nothing {}, piece)?;
        left -= length as u64;
    }
    let blake3 = hasher.finalize().to_hex();
    connection.send("end", Some(id), End { blake3: &blake3 }, &[])?;
    loop {
        let frame = connection.receive()?;
        if frame.envelope.id != Some(id) {
            continue;
        }
        if let Some(error) = frame.refusal() {
            return Err(ClientError::Refused { what, error });
        }
        if frame.answers("end") {
            let stored: Stored = frame.fields()?;
            return Ok(stored.path);
        }
    }
}
