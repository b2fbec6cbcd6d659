//! Downloads.
//!
//! Several files are asked for at once; each arrives under a temporary name
//! and takes its own when it is whole, and verified where that was asked for.
//! With `--resume`, or to standard output, it is one file at a time; with
//! `--resume` a lost connection is opened again.

use crate::client::connection::Frame;
use crate::client::error::{ClientError, Result};
use crate::client::files::Options;
use crate::client::files::link::Link;
use crate::client::files::local::{Folder, Part, exists};
use crate::client::files::names::{self, digest};
use crate::client::files::plan::STDIO;
use crate::client::files::remote::{self, Kind, Node, Stat, Tree};
use crate::client::progress::{Bar, Done, Report};
use crate::client::{stdio, text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// Downloads that may be under way at once.
const WINDOW: usize = 8;

#[derive(Serialize)]
struct Get<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

#[derive(Serialize)]
struct Hash<'a> {
    path: &'a str,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Clone, Copy, Deserialize)]
struct Coming {
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
enum Target {
    Stdout,
    File { folder: Arc<Folder>, name: OsString },
}

impl Target {
    fn shown(&self) -> String {
        match self {
            Target::Stdout => "standard output".to_owned(),
            Target::File { folder, name } => folder.shown(name),
        }
    }
}

enum Sink {
    Stdout,
    Part(Part),
}

enum Stage {
    /// The answer to `get` is still to come.
    Asked,
    Data(Coming),
    /// The answer to `hash` is still to come.
    Verifying(Coming),
    /// It failed here, and the server's last frame is still to come.
    Cancelled,
}

struct Download {
    remote: String,
    target: Target,
    sink: Sink,
    stage: Stage,
    offset: u64,
    received: u64,
    hasher: Option<blake3::Hasher>,
    /// What the file was when `stat` was asked, where an offset relies on it.
    expected: Option<(u64, i64)>,
    error: Option<ClientError>,
    counted: bool,
    bar: Option<Bar>,
}

/// Fetches files.
pub struct Downloader<'a> {
    link: &'a mut Link,
    options: Options,
    report: &'a mut Report,
    downloads: BTreeMap<u64, Download>,
    /// The files' lengths were known, and counted, before they were asked for.
    counted: bool,
}

impl<'a> Downloader<'a> {
    /// A downloader over `link` that tells `report`.
    pub fn new(link: &'a mut Link, options: Options, report: &'a mut Report) -> Self {
        Downloader { link, options, report, downloads: BTreeMap::new(), counted: false }
    }

    /// `get REMOTE... [LOCAL]`: `LOCAL` is a directory where it ends with `/`,
    /// is one already, or several files go there; otherwise it is the new name.
    /// Without it, files keep the names that were typed.
    ///
    /// # Errors
    /// `Usage`; what ends the connection; `BrokenPipe`.
    pub fn run(&mut self, remotes: &[String], local: Option<&Path>) -> Result<()> {
        self.report.expect(remotes.len(), 0);
        if local.is_some_and(|path| path.as_os_str() == STDIO) {
            return self.to_stdout(remotes);
        }
        let local = local.unwrap_or(Path::new("."));
        let slash = local.as_os_str().as_encoded_bytes().ends_with(b"/");
        let into = remotes.len() > 1 || slash || local.is_dir();
        for typed in remotes {
            let path = names::remote(typed);
            let (folder, name) = match (into, names::local_name(typed)?) {
                (true, name) => (local, name.map(OsString::from)),
                (false, _) => {
                    let Some(name) = local.file_name() else {
                        return Err(ClientError::Usage(format!("{} is no name for a file", local.display())));
                    };
                    (local.parent().unwrap_or(Path::new(".")), Some(name.to_owned()))
                }
            };
            let folder = Folder::open(folder)?;
            if self.options.recursive {
                self.tree(path, folder, name)?;
                self.counted = false;
            } else if let Some(name) = name {
                self.fetch(path.to_owned(), Target::File { folder, name })?;
            } else {
                return Err(ClientError::Usage("the root is a directory; -r fetches directories".to_owned()));
            }
        }
        self.drain(0)
    }

    fn to_stdout(&mut self, remotes: &[String]) -> Result<()> {
        for typed in remotes {
            self.fetch(names::remote(typed).to_owned(), Target::Stdout)?;
            self.drain(0)?;
        }
        Ok(())
    }

    /// A directory with all below it, or a file. `name` is what it is called
    /// here; without one its content goes right into `folder`.
    fn tree(&mut self, path: &str, folder: Arc<Folder>, name: Option<OsString>) -> Result<()> {
        self.drain(0)?;
        let walked = self.retrying(|this| {
            let connection = this.link.connection();
            let top = remote::stat(connection, path)?;
            let tree = match top.kind {
                Kind::Dir => Some(remote::walk(connection, path, this.report)?),
                _ => None,
            };
            Ok((top, tree))
        });
        let (top, tree) = match walked {
            Ok(walked) => walked,
            Err(error) => return self.give_up(error),
        };
        let Some(tree) = tree else {
            let name = name.ok_or_else(|| ClientError::Protocol("the root is no directory".to_owned()))?;
            return self.fetch(path.to_owned(), Target::File { folder, name });
        };
        let entered = match &name {
            Some(name) => folder.make(name).and_then(|made| Ok((folder.enter(name)?, made))),
            None => Ok((folder, false)),
        };
        match entered {
            Ok((root, made)) => self.fill(path, &root, tree, made.then_some(top)),
            Err(error) => self.give_up(error),
        }
    }

    /// `tree`, which is below `path`, into `root`; `top` is what `root` shall
    /// be like, where it was made for this.
    fn fill(&mut self, path: &str, root: &Arc<Folder>, tree: Tree, top: Option<Stat>) -> Result<()> {
        self.report.expect(tree.files.len(), tree.files.iter().map(|file| file.stat.length).sum());
        self.counted = true;
        let mut made: Vec<Node> = top.map(|stat| Node { relative: String::new(), stat }).into_iter().collect();
        for node in tree.dirs {
            let (parent, name) = split(&node.relative);
            match root.descend(parent).and_then(|folder| folder.make(OsStr::new(name))) {
                Ok(true) => made.push(node),
                Ok(false) => {}
                Err(error) => self.report.failed(&error),
            }
        }
        // A directory's files stand together, so the last one opened does for most.
        let mut last: Option<(String, Arc<Folder>)> = None;
        for Node { relative, .. } in tree.files {
            let (parent, name) = split(&relative);
            let folder = match last.take().filter(|(path, _)| path == parent) {
                Some((_, folder)) => Ok(folder),
                None => root.descend(parent),
            };
            match folder {
                Ok(folder) => {
                    last = Some((parent.to_owned(), folder.clone()));
                    let target = Target::File { folder, name: OsString::from(name) };
                    self.fetch(names::join(path, &relative), target)?;
                }
                Err(error) => self.report.failed(&error),
            }
        }
        self.drain(0)?;
        // Children first, and only now: a directory may be read-only, and a
        // file that is made in it changes its time.
        for Node { relative, stat } in made.into_iter().rev() {
            let settled = root.descend(&relative).and_then(|folder| folder.settle(stat.mode, stat.mtime_ms));
            if let Err(error) = settled {
                self.report.failed(&error);
            }
        }
        Ok(())
    }

    /// Runs `f` again on a new connection while that helps and was asked for.
    fn retrying<T>(&mut self, mut f: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        loop {
            match f(self) {
                Err(error) if self.options.resume && error.is_lost() => self.link.reopen(error, self.report)?,
                done => return done,
            }
        }
    }

    /// Reports what concerns one file only and passes on what ends everything.
    fn give_up(&mut self, error: ClientError) -> Result<()> {
        match error {
            ClientError::Refused { .. } | ClientError::Local(_) => {
                self.report.failed(&error);
                Ok(())
            }
            error => Err(error),
        }
    }

    fn fetch(&mut self, path: String, target: Target) -> Result<()> {
        if let Target::File { folder, name } = &target
            && !self.options.replace
            && folder.has(name)
        {
            self.report.failed(&exists(&folder.shown(name)));
            return Ok(());
        }
        if !self.options.resume {
            self.drain(WINDOW - 1)?;
            let started = self.start(path, target, None);
            return started.or_else(|error| self.give_up(error));
        }
        let done = self.retrying(|this| {
            this.downloads.clear();
            let stat = remote::stat(this.link.connection(), &path)?;
            this.start(path.clone(), target.clone(), Some(stat))?;
            this.drain(0)
        });
        done.or_else(|error| self.give_up(error))
    }

    fn start(&mut self, path: String, target: Target, stat: Option<Stat>) -> Result<()> {
        let mut hasher = self.options.verify.then(blake3::Hasher::new);
        let mut offset = 0;
        let sink = match (&target, stat) {
            (Target::Stdout, _) => Sink::Stdout,
            (Target::File { folder, .. }, None) => Sink::Part(folder.part()?),
            (Target::File { folder, name }, Some(stat)) => {
                // A part is for one state of one file on one server: any other has another name.
                let host = self.link.connection().host().to_string();
                let (length, time) = (stat.length.to_le_bytes(), stat.mtime_ms.to_le_bytes());
                let key = digest(&[host.as_bytes(), path.as_bytes(), name.as_encoded_bytes(), &length, &time]);
                let (mut part, there) = folder.kept_part(&key)?;
                offset = if there <= stat.length { there } else { 0 };
                part.resume_at(offset, hasher.as_mut())?;
                Sink::Part(part)
            }
        };
        let connection = self.link.connection();
        let id = connection.take_id();
        connection.send("get", Some(id), Get { path: &path, offset: (offset > 0).then_some(offset) }, &[])?;
        self.downloads.insert(
            id,
            Download {
                remote: path,
                target,
                sink,
                stage: Stage::Asked,
                offset,
                received: 0,
                hasher,
                expected: stat.map(|stat| (stat.length, stat.mtime_ms)),
                error: None,
                counted: self.counted,
                bar: None,
            },
        );
        Ok(())
    }

    /// Waits until at most `left` downloads are under way.
    fn drain(&mut self, left: usize) -> Result<()> {
        while self.downloads.len() > left {
            self.absorb()?;
        }
        Ok(())
    }

    fn absorb(&mut self) -> Result<()> {
        let frame = self.link.connection().receive()?;
        let Some(id) = frame.envelope.id else { return Ok(()) };
        let Some(download) = self.downloads.get_mut(&id) else { return Ok(()) };
        match download.take(&frame, self.report)? {
            Next::More => Ok(()),
            Next::Progress => {
                self.link.progressed();
                Ok(())
            }
            Next::Cancel(error) => {
                download.error = Some(error);
                download.stage = Stage::Cancelled;
                self.link.connection().send("cancel", Some(id), Nothing {}, &[])
            }
            // The `end` freed the id, so the next request may bear it.
            Next::Verify => {
                let path = download.remote.clone();
                self.link.connection().send("hash", Some(id), Hash { path: &path }, &[])
            }
            Next::Over(result) => {
                let Some(download) = self.downloads.remove(&id) else { return Ok(()) };
                match result.and_then(|coming| download.finish(coming, self.options.replace)) {
                    Ok(done) => self.report.done(&done),
                    Err(error) => {
                        self.report.failed(&error);
                        Ok(())
                    }
                }
            }
        }
    }
}

/// Parent and last component of a relative path.
fn split(relative: &str) -> (&str, &str) {
    relative.rsplit_once('/').unwrap_or(("", relative))
}

/// What a frame leads to.
enum Next {
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
    fn take(&mut self, frame: &Frame<'_>, report: &mut Report) -> Result<Next> {
        if frame.answers("cancel") {
            return Ok(Next::More);
        }
        if let Some(error) = frame.refusal() {
            if let Sink::Part(part) = &mut self.sink
                && error.is(crate::wire::ErrorCode::Changed)
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
                let length = self.offset.saturating_add(coming.length);
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
    fn finish(self, coming: Coming, replace: bool) -> Result<Done> {
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
