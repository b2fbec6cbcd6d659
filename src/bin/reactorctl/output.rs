//! What is printed: lines for people or JSON for programs, and complaints.

use reactord::client::stdio::{self, Stream};
use reactord::client::{ClientError, Result, text};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, BufWriter, Write};

/// Standard output, in one of two styles.
pub(crate) struct Output {
    stream: BufWriter<Stream>,
    /// One JSON object a line.
    pub(crate) json: bool,
    /// Nothing but what was asked for, and errors.
    pub(crate) quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Output {
        Output { stream: BufWriter::new(stdio::stdout()), json, quiet }
    }

    /// One line; hidden characters are stripped.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<()> {
        let line = line.to_string();
        writeln!(self.stream, "{}", text::visible(&line)).map_err(failed)
    }

    /// One JSON object; hidden characters are written as escapes.
    pub(crate) fn object(&mut self, value: &impl Serialize) -> Result<()> {
        writeln!(self.stream, "{}", json(value)?).map_err(failed)
    }

    /// Everything so far goes out.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.stream.flush().map_err(failed)
    }
}

/// A value as one line of JSON that a terminal can show.
pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string(value).map_err(|e| ClientError::Local(e.to_string()))?;
    Ok(text::escape_json(&json).into_owned())
}

/// What went wrong, as one line on standard error.
pub(crate) fn complain(what: impl Display) {
    say(format_args!("reactorctl: {what}"));
}

/// One line on standard error, in one piece.
pub(crate) fn say(what: impl Display) {
    // Where standard error fails, there is nothing left to say so on.
    let _ = stdio::stderr().write_all(format!("{what}\n").as_bytes());
}

fn failed(e: io::Error) -> ClientError {
    match e.kind() {
        io::ErrorKind::BrokenPipe => ClientError::BrokenPipe,
        _ => ClientError::local("cannot write to standard output", e),
    }
}
