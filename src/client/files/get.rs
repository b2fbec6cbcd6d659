//! Downloads.
//!
//! Several files are asked for at once; each arrives under a temporary name
//! and takes its own when it is whole, and verified where that was asked for.
//! With `--resume`, or to standard output, it is one file at a time; with
//! `--resume` a lost connection is opened again.

use crate::client::error::{ClientError, Result};
use crate::client::files::Options;
use crate::client::files::download::{Download, Next, Sink, Stage, Target};
use crate::client::files::link::Link;
use crate::client::files::local::{Folder, exists};
use crate::client::files::names::{self, digest};
use crate::client::files::plan::STDIO;
use crate::client::files::remote::{self, Kind, Node, Stat, Tree};
use crate::client::frame::Nothing;
use crate::client::progress::Report;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
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
            return self.concatenate(remotes);
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

    fn concatenate(&mut self, remotes: &[String]) -> Result<()> {
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
