//! One download: what the server's frames make of it.
//!
//! A state machine without a connection: it writes what comes into its sink
//! and says what is to be asked next.

use crate::client::error::{ClientError, Result};
use crate::client::files::local::{Folder, Part};
use crate::client::frame::Frame;
use crate::client::progress::{Bar, Done, Report};
use crate::client::{stdio, text};
use crate::wire::ErrorCode;
use serde::Deserialize;
use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::Arc;

#[derive(Clone, Copy, Deserialize)]
pub(super) struct Coming {
    length: u64,
    total: u64,
    mtime_ms: i64,
    mode: u32,
}

#[derive(Deserialize)]
struct Ended {
    #[serde(default)]
    ok: bool,
}

#[derive(Deserialize)]
struct Hashed {
    blake3: String,
}

/// Where a download goes.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Stdout,
    File { folder: Arc<Folder>, name: OsString },
}

impl Target {
    pub(super) fn shown(&self) -> String {
        match self {
            Target::Stdout => "standard output".to_owned(),
            Target::File { folder, name } => folder.shown(name),
        }
    }
}

pub(super) enum Sink {
    Stdout,
    Part(Part),
}

pub(super) enum Stage {
    /// The answer to `get` is still to come.
    Asked,
    Data(Coming),
    /// The answer to `hash` is still to come.
    Verifying(Coming),
    /// It failed here, and the server's last frame is still to come.
    Cancelled,
}

pub(super) struct Download {
    pub(super) remote: String,
    pub(super) target: Target,
    pub(super) sink: Sink,
    pub(super) stage: Stage,
    pub(super) offset: u64,
    pub(super) received: u64,
    pub(super) hasher: Option<blake3::Hasher>,
    /// What the file was when `stat` was asked, where an offset relies on it.
    pub(super) expected: Option<(u64, i64)>,
    pub(super) error: Option<ClientError>,
    pub(super) counted: bool,
    pub(super) bar: Option<Bar>,
}

/// What a frame leads to.
pub(super) enum Next {
    More,
    /// Bytes came.
    Progress,
    /// It failed here: the server need not go on.
    Cancel(ClientError),
    /// All came: ask for the checksum there.
    Verify,
    /// This download is over.
    Over(Result<Coming>),
}

impl Download {
    /// Takes one frame of this download's.
    ///
    /// # Errors
    /// `BrokenPipe`, and frames that make no sense.
    pub(super) fn take(&mut self, frame: &Frame<'_>, report: &mut Report) -> Result<Next> {
        if frame.answers("cancel") {
            return Ok(Next::More);
        }
        if let Some(error) = frame.refusal() {
            if let Sink::Part(part) = &mut self.sink
                && error.is(ErrorCode::Changed)
            {
                part.spoil();
            }
            let what = format!("get \"{}\"", text::visible(&self.remote));
            let error = self.error.take().unwrap_or(ClientError::Refused { what, error });
            return Ok(Next::Over(Err(error)));
        }
        match self.stage {
            Stage::Asked if frame.answers("get") => {
                let coming: Coming = frame.fields()?;
                if self.expected.is_some_and(|expected| expected != (coming.total, coming.mtime_ms)) {
                    return Ok(Next::Cancel(self.wrong("changed on the server just now; try again")));
                }
                let Some(length) = self.offset.checked_add(coming.length).filter(|length| *length == coming.total)
                else {
                    return Ok(Next::Cancel(self.wrong("would not come whole")));
                };
                if !self.counted {
                    report.expect(1, length);
                }
                self.bar = Some(report.bar(&self.remote, length, self.offset));
                self.stage = Stage::Data(coming);
                Ok(Next::More)
            }
            Stage::Data(coming) if frame.is_event("data") => self.write(frame.body, coming),
            Stage::Data(coming) if frame.is_event("end") => {
                let ended: Ended = frame.fields()?;
                if !ended.ok || self.received != coming.length {
                    return Ok(Next::Over(Err(self.wrong("ended before all its bytes came"))));
                }
                if self.hasher.is_none() {
                    return Ok(Next::Over(Ok(coming)));
                }
                self.stage = Stage::Verifying(coming);
                Ok(Next::Verify)
            }
            Stage::Verifying(coming) if frame.answers("hash") => {
                let there: Hashed = frame.fields()?;
                let here = self.hasher.as_ref().map(|hasher| hasher.finalize().to_hex().to_string());
                if here.as_ref() == Some(&there.blake3) {
                    return Ok(Next::Over(Ok(coming)));
                }
                if let Sink::Part(part) = &mut self.sink {
                    part.spoil();
                }
                Ok(Next::Over(Err(self.wrong("has another checksum there than the bytes that came"))))
            }
            Stage::Cancelled if frame.is_event("end") => {
                let error = self.error.take().unwrap_or_else(|| self.wrong("was cancelled"));
                Ok(Next::Over(Err(error)))
            }
            Stage::Cancelled => Ok(Next::More),
            _ => Err(ClientError::Protocol(format!("an unexpected frame in the download of {}", self.remote))),
        }
    }

    fn wrong(&self, what: &str) -> ClientError {
        ClientError::Local(format!("get \"{}\": the file {what}", text::visible(&self.remote)))
    }

    fn write(&mut self, bytes: &[u8], coming: Coming) -> Result<Next> {
        self.received += bytes.len() as u64;
        if self.received > coming.length {
            return Ok(Next::Cancel(self.wrong("is longer than the server announced")));
        }
        let written = match &mut self.sink {
            Sink::Stdout => stdio::stdout().write_all(bytes),
            Sink::Part(part) => part.file().write_all(bytes),
        };
        match written {
            Ok(()) => {
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(bytes);
                }
                if let Some(bar) = &self.bar {
                    bar.inc(bytes.len());
                }
                Ok(Next::Progress)
            }
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe && matches!(self.sink, Sink::Stdout) => {
                Err(ClientError::BrokenPipe)
            }
            Err(e) => Ok(Next::Cancel(ClientError::local(format_args!("cannot write {}", self.target.shown()), e))),
        }
    }

    /// The file takes its name.
    pub(super) fn finish(self, coming: Coming, replace: bool) -> Result<Done> {
        let local = self.target.shown();
        if let (Sink::Part(part), Target::File { name, .. }) = (self.sink, &self.target) {
            part.publish(name, replace, coming.mode, coming.mtime_ms)?;
        }
        Ok(Done {
            direction: "get",
            local,
            remote: self.remote,
            length: coming.total,
            moved: self.received,
            blake3: self.hasher.map(|hasher| hasher.finalize().to_hex().to_string()),
            already: false,
        })
    }
}
