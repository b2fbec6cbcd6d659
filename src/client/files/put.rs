//! Uploads.
//!
//! Without `--resume` nothing is waited for: each file's `put`, `data` and
//! `end` go out one after another, several files may be on their way, and
//! answers are taken as they come. A refused file stops being sent as soon as
//! its refusal is seen. With `--resume` it is one file at a time, because the
//! server says where to go on, and a lost connection is opened again.

use crate::client::error::{ClientError, Result, ServerError};
use crate::client::files::Options;
use crate::client::files::link::Link;
use crate::client::files::names::digest;
use crate::client::files::plan::Step;
use crate::client::files::source::Source;
use crate::client::frame::Nothing;
use crate::client::progress::{Bar, Done, Report};
use crate::client::text;
use crate::wire::{ErrorCode, MAX_DATA};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Files whose answers may be outstanding at once.
const WINDOW: usize = 16;

#[derive(Serialize)]
struct Put<'a> {
    path: &'a str,
    length: u64,
    exists: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    parents: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<&'a str>,
}

#[derive(Deserialize)]
struct Accepted {
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    already: bool,
}

#[derive(Serialize)]
struct End<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<&'a str>,
}

#[derive(Deserialize)]
struct Stored {
    blake3: Option<String>,
}

#[derive(Serialize)]
struct Mkdir<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    parents: bool,
}

/// A request whose last answer has not come.
struct Flight {
    shown: String,
    remote: String,
    length: u64,
    moved: u64,
    blake3: Option<String>,
    /// What ended it before its last answer.
    error: Option<ClientError>,
    mkdir: bool,
    bar: Option<Bar>,
}

impl Flight {
    fn refused(&self, error: ServerError) -> ClientError {
        let what = if self.mkdir { "mkdir" } else { "put" };
        ClientError::Refused { what: format!("{what} \"{}\"", text::visible(&self.remote)), error }
    }
}

/// Sends files.
pub struct Uploader<'a> {
    link: &'a mut Link,
    options: Options,
    report: &'a mut Report,
    flights: BTreeMap<u64, Flight>,
    buffer: Vec<u8>,
}

impl<'a> Uploader<'a> {
    /// An uploader over `link` that tells `report`.
    pub fn new(link: &'a mut Link, options: Options, report: &'a mut Report) -> Self {
        Uploader { link, options, report, flights: BTreeMap::new(), buffer: vec![0; MAX_DATA] }
    }

    /// Takes all steps. What is refused is reported and the others go on.
    ///
    /// # Errors
    /// What ends the connection, and `BrokenPipe`.
    pub fn run(&mut self, steps: Vec<Step>) -> Result<()> {
        let files = steps.iter().filter(|step| matches!(step, Step::Put { .. })).count();
        let bytes = steps.iter().map(|step| if let Step::Put { length, .. } = step { *length } else { 0 }).sum();
        self.report.expect(files, bytes);
        let sent = steps.into_iter().try_for_each(|step| self.step(step)).and_then(|()| self.drain(0));
        if sent.is_err() && !self.flights.is_empty() {
            let n = self.flights.len();
            self.report.note(format_args!("{n} uploads were under way, and it is not known whether they arrived"));
        }
        sent
    }

    fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Mkdir(path) => self.mkdir(path),
            Step::Put { local, remote, .. } => match Source::open(local.as_deref()) {
                Err(error) => {
                    self.report.failed(&error);
                    Ok(())
                }
                Ok(source) if self.options.resume => self.put_resuming(source, remote),
                Ok(source) => self.put(source, remote),
            },
        }
    }

    fn mkdir(&mut self, path: String) -> Result<()> {
        loop {
            let sent = self.drain(WINDOW - 1).and_then(|()| {
                let connection = self.link.connection();
                let id = connection.take_id();
                connection.send("mkdir", Some(id), Mkdir { path: &path, parents: self.options.parents }, &[])?;
                Ok(id)
            });
            let waited = sent.and_then(|id| {
                self.flights.insert(
                    id,
                    Flight {
                        shown: String::new(),
                        remote: path.clone(),
                        length: 0,
                        moved: 0,
                        blake3: None,
                        error: None,
                        mkdir: true,
                        bar: None,
                    },
                );
                // Who may have to start anew keeps nothing outstanding.
                if self.options.resume { self.drain(0) } else { Ok(()) }
            });
            match waited {
                Err(error) if self.options.resume && error.is_lost() => {
                    self.flights.clear();
                    self.link.reopen(error, self.report)?;
                }
                done => return done,
            }
        }
    }

    fn put(&mut self, mut source: Source, remote: String) -> Result<()> {
        self.drain(WINDOW - 1)?;
        let id = self.link.connection().take_id();
        let fields = fields(&source, &remote, self.options, None, None);
        self.link.connection().send("put", Some(id), fields, &[])?;
        self.take_off(id, &source, remote, 0, None);
        self.stream(id, &mut source, 0)
    }

    fn take_off(&mut self, id: u64, source: &Source, remote: String, offset: u64, blake3: Option<String>) {
        let flight = Flight {
            shown: source.shown.clone(),
            bar: Some(self.report.bar(&source.shown, source.length, offset)),
            remote,
            length: source.length,
            moved: source.length - offset,
            blake3,
            error: None,
            mkdir: false,
        };
        self.flights.insert(id, flight);
    }

    /// Sends a file's bytes from `offset` on and its `end`; its last answer is
    /// left to [`Uploader::absorb`].
    fn stream(&mut self, id: u64, source: &mut Source, offset: u64) -> Result<()> {
        let known = self.flights.get(&id).and_then(|flight| flight.blake3.clone());
        let mut hasher = (self.options.verify && known.is_none()).then(blake3::Hasher::new);
        let mut left = source.length - offset;
        while left > 0 {
            while self.link.connection().ready()? {
                self.absorb()?;
            }
            let Some(flight) = self.flights.get_mut(&id).filter(|flight| flight.error.is_none()) else { break };
            let n = usize::try_from(left).unwrap_or(MAX_DATA).min(MAX_DATA);
            if let Err(error) = source.fill(&mut self.buffer[..n]) {
                flight.error = Some(error);
                // Nothing is published, and no part is kept of what was never a whole file.
                return self.link.connection().send("cancel", Some(id), Nothing {}, &[]);
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&self.buffer[..n]);
            }
            self.link.connection().send("data", Some(id), Nothing {}, &self.buffer[..n])?;
            if let Some(bar) = &flight.bar {
                bar.inc(n);
            }
            left -= n as u64;
        }
        let blake3 = known.or_else(|| hasher.map(|hasher| hasher.finalize().to_hex().to_string()));
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.blake3.clone_from(&blake3);
        }
        // Also for a refused file: its `end` is what frees the id.
        self.link.connection().send("end", Some(id), End { blake3: blake3.as_deref() }, &[])
    }

    /// Waits until at most `left` answers are outstanding.
    fn drain(&mut self, left: usize) -> Result<()> {
        while self.flights.len() > left {
            self.absorb()?;
        }
        Ok(())
    }

    /// Takes one frame and settles what it is the last answer of.
    fn absorb(&mut self) -> Result<()> {
        let frame = self.link.connection().receive()?;
        let (Some(id), Some(re)) = (frame.envelope.id, frame.envelope.re.clone()) else { return Ok(()) };
        let Some(flight) = self.flights.get_mut(&id) else { return Ok(()) };
        let refusal = frame.refusal();
        if let Some(error) = refusal {
            // The first word counts: what `end` says of a refused `put` repeats it.
            let error = flight.refused(error);
            flight.error.get_or_insert(error);
        }
        let stored: Option<Stored> = match re.as_str() {
            "end" if flight.error.is_none() => Some(frame.fields()?),
            "end" | "cancel" | "mkdir" => None,
            _ => return Ok(()),
        };
        let Some(flight) = self.flights.remove(&id) else { return Ok(()) };
        self.link.progressed();
        self.settle(flight, stored)
    }

    fn settle(&mut self, flight: Flight, stored: Option<Stored>) -> Result<()> {
        // The bar goes before a line is written.
        let Flight { shown, remote, length, moved, blake3, error, mkdir, bar: _ } = flight;
        if let Some(error) = error {
            // A directory that is there already is what was wanted.
            if !(mkdir && error.is_refusal(ErrorCode::Exists)) {
                self.report.failed(&error);
            }
            return Ok(());
        }
        if mkdir {
            return Ok(());
        }
        let there = stored.and_then(|stored| stored.blake3);
        if let (Some(ours), Some(theirs)) = (&blake3, &there)
            && ours != theirs
        {
            let error = format!("put \"{}\": the server has other bytes than were sent", text::visible(&remote));
            self.report.failed(&ClientError::Protocol(error));
            return Ok(());
        }
        let done = Done { direction: "put", local: shown, remote, length, moved, blake3: there, already: false };
        self.report.done(&done)
    }

    /// One file, over as many connections as it takes.
    fn put_resuming(&mut self, mut source: Source, remote: String) -> Result<()> {
        let hash = match source.hash() {
            Ok(hash) => hash,
            Err(error) => {
                self.report.failed(&error);
                return Ok(());
            }
        };
        let time = source.stamp.map_or(0, |(_, mtime_ms)| mtime_ms);
        let identity =
            [source.identity.as_bytes(), &source.length.to_le_bytes(), &time.to_le_bytes(), remote.as_bytes()];
        let key = digest(&identity);
        loop {
            let error = match self.attempt(&mut source, &remote, &key, &hash) {
                Err(error) => error,
                done => return done,
            };
            self.flights.clear();
            // Busy: the server has not noticed yet that the old connection is gone.
            if error.is_lost() || error.is_refusal(ErrorCode::Busy) {
                self.link.reopen(error, self.report)?;
            } else if matches!(error, ClientError::Refused { .. } | ClientError::Local(_)) {
                self.report.failed(&error);
                return Ok(());
            } else {
                return Err(error);
            }
        }
    }

    fn attempt(&mut self, source: &mut Source, remote: &str, key: &str, hash: &str) -> Result<()> {
        let what = format!("put \"{}\"", text::visible(remote));
        let fields = fields(source, remote, self.options, Some(key), Some(hash));
        let (accepted, id): (Accepted, u64) = self.link.connection().begin(&what, "put", fields)?;
        if accepted.already {
            return self.report.done(&Done {
                direction: "put",
                local: source.shown.clone(),
                remote: remote.to_owned(),
                length: source.length,
                moved: 0,
                blake3: Some(hash.to_owned()),
                already: true,
            });
        }
        if accepted.offset > source.length {
            return Err(ClientError::Protocol(format!("{what} goes on behind the file's end")));
        }
        source.seek(accepted.offset)?;
        self.take_off(id, source, remote.to_owned(), accepted.offset, Some(hash.to_owned()));
        if accepted.offset > 0 {
            self.link.progressed();
        }
        self.stream(id, source, accepted.offset)?;
        self.drain(0)
    }
}

fn fields<'a>(
    source: &Source,
    remote: &'a str,
    options: Options,
    resume: Option<&'a str>,
    blake3: Option<&'a str>,
) -> Put<'a> {
    Put {
        path: remote,
        length: source.length,
        exists: if options.replace { "replace" } else { "fail" },
        parents: options.parents,
        resume,
        mtime_ms: source.stamp.map(|(_, mtime_ms)| mtime_ms),
        mode: source.stamp.map(|(mode, _)| mode),
        blake3,
    }
}
