//! What a worker does with one task, and what remains of it.

use super::create::{Created, Creation, Step as CreateStep};
use super::hashing::Hashing;
use super::jail::{self, Jail};
use super::listing::Listings;
use super::parts::Parts;
use super::refusal::{because, on};
use super::upload::Upload;
use super::{Client, OpenFile, tree, warm};
use crate::proto::files::{Checksum, Create, DiskDone, DiskOp, FileHandle, Ticket};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::files::Status;
use rustix::fd::OwnedFd;
use rustix::fs::{self as sys, Stat};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `f_type` of a tmpfs (TMPFS_MAGIC, statfs(2)).
const TMPFS: i64 = 0x0102_1994;

/// Identity, length and modification time.
pub(super) type Version = ((u64, u64), u64, (i64, i64));

fn version(stat: &Stat) -> Version {
    (jail::identity(stat), jail::length(stat), jail::mtime(stat))
}

/// What all workers share, and none changes but under a lock.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) jail: Jail,
    pub(super) parts: Parts,
    pub(super) listings: Listings,
}

/// One thing for a worker to do.
#[derive(Debug)]
pub(super) enum Task {
    /// An operation that is done at once and answered.
    Simple {
        client: Arc<Client>,
        ticket: Ticket,
        op: DiskOp,
    },
    /// Look whether a download's file is what it was.
    Check {
        client: Arc<Client>,
        ticket: Ticket,
        file: Option<Arc<OpenFile>>,
    },
    /// Close files.
    Close {
        answer: Option<(Arc<Client>, Ticket)>,
        files: Vec<Arc<OpenFile>>,
    },
    Hash(Box<HashTask>),
    Create(Box<CreateTask>),
    /// The steps that queued up for an upload.
    Upload(FileHandle),
    /// Read a stretch for its effect on the page cache.
    Warm {
        client: Arc<Client>,
        handle: FileHandle,
        file: Arc<OpenFile>,
        offset: u64,
        length: usize,
    },
    /// Remove what crashes left behind, and parts whose time is up.
    Sweep,
}

/// One step of an upload.
#[derive(Debug)]
pub(super) enum Step {
    Write(Vec<u8>),
    Finish(Option<Checksum>),
    Release { keep: bool },
}

/// A file that was opened for a download, as it was then.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: OpenFile,
    pub(super) status: Status,
}

impl Ground {
    /// Opens a file for downloads.
    pub(super) fn open(&self, path: String) -> Result<Opened, Refusal> {
        let (fd, stat) = self.jail.file(&path).map_err(on(&path))?;
        let in_memory = sys::fstatfs(&fd).is_ok_and(|fs| fs.f_type == TMPFS);
        let file = OpenFile { fd, path, version: version(&stat), in_memory };
        Ok(Opened { file, status: tree::status(&stat) })
    }

    /// Whether a download's file is what it was when it was opened.
    pub(super) fn check(&self, file: Option<&OpenFile>) -> Result<DiskDone, Refusal> {
        let Some(file) = file else {
            return Err(Refusal::new(ErrorCode::Io, "the file was closed before it was sent"));
        };
        let path = &file.path;
        let stat = sys::fstat(&file.fd).map_err(on(path))?;
        if version(&stat) != file.version {
            return Err(because(ErrorCode::Changed, path, "the file changed while it was sent: get it again"));
        }
        // A file that was replaced by a rename was sent whole, as it was. One
        // that has no name any more and no successor has vanished.
        if stat.st_nlink == 0 && self.jail.path(path).is_err_and(|errno| errno == Errno::NOENT) {
            return Err(because(ErrorCode::Changed, path, "the file was removed while it was sent"));
        }
        Ok(DiskDone::Done)
    }

    /// Operations that are done at once.
    pub(super) fn simple(&self, op: DiskOp) -> Result<DiskDone, Refusal> {
        match op {
            DiskOp::List { path, after, limit } => {
                let page = self.listings.page(&self.jail, &path, after.as_deref(), limit)?;
                Ok(DiskDone::Listed { entries: page.entries, more: page.more, skipped: page.skipped })
            }
            DiskOp::Stat { path } => tree::stat(&self.jail, &path).map(DiskDone::Status),
            DiskOp::Mkdir { path, parents } => tree::mkdir(&self.jail, &path, parents).map(|()| DiskDone::Done),
            DiskOp::Remove { path } => tree::remove(&self.jail, &self.parts, &path).map(|()| DiskDone::Done),
            DiskOp::Rename { path, to, exists } => {
                tree::rename_entry(&self.jail, &self.parts, &path, &to, exists).map(|()| DiskDone::Done)
            }
            // The others have tasks of their own.
            other => Err(Refusal::new(ErrorCode::Io, format!("not an operation that is done at once: {other:?}"))),
        }
    }

    pub(super) fn warm(&self, file: &OpenFile, offset: u64, length: usize, scratch: &mut Vec<u8>) {
        warm::warm(file, offset, length, scratch);
    }

    pub(super) fn sweep(&self) {
        match self.parts.sweep(&self.jail) {
            Ok(0) => {}
            Ok(removed) => log::info!("removed {removed} unfinished uploads"),
            Err(errno) => log::warn!("cannot look for unfinished uploads: {errno}"),
        }
    }
}

/// A `hash` under way.
#[derive(Debug)]
pub(super) struct HashTask {
    pub(super) client: Arc<Client>,
    pub(super) ticket: Ticket,
    path: String,
    stop: Arc<AtomicBool>,
    file: Option<(OwnedFd, Version)>,
    hashing: Hashing,
}

impl HashTask {
    pub(super) fn new(client: Arc<Client>, ticket: Ticket, path: String, stop: Arc<AtomicBool>) -> Self {
        HashTask { client, ticket, path, stop, file: None, hashing: Hashing::default() }
    }

    /// Goes on; the result when there is one.
    pub(super) fn step(&mut self, ground: &Ground, scratch: &mut Vec<u8>) -> Option<Result<DiskDone, Refusal>> {
        if self.stop.load(Ordering::Relaxed) || self.client.is_gone() {
            return Some(Err(because(ErrorCode::Cancelled, &self.path, "the checksum is not needed any more")));
        }
        self.try_step(ground, scratch).transpose()
    }

    fn try_step(&mut self, ground: &Ground, scratch: &mut Vec<u8>) -> Result<Option<DiskDone>, Refusal> {
        let failed = on(&self.path);
        let (file, begun) = match &self.file {
            Some(open) => open,
            None => {
                let (fd, stat) = ground.jail.file(&self.path).map_err(&failed)?;
                self.file.insert((fd, version(&stat)))
            }
        };
        let (_, length, _) = *begun;
        if !self.hashing.step(file, length, scratch).map_err(&failed)? {
            return Ok(None);
        }
        if version(&sys::fstat(file).map_err(&failed)?) != *begun || self.hashing.at != length {
            return Err(because(ErrorCode::Changed, &self.path, "the file changed while it was read: ask again"));
        }
        Ok(Some(DiskDone::Hashed { blake3: *self.hashing.hasher.finalize().as_bytes(), length }))
    }
}

/// A `put` that begins.
#[derive(Debug)]
pub(super) struct CreateTask {
    pub(super) client: Arc<Client>,
    pub(super) ticket: Ticket,
    creation: Option<Box<Creation>>,
}

impl CreateTask {
    pub(super) fn new(client: Arc<Client>, ticket: Ticket, create: Create) -> Self {
        CreateTask { client, ticket, creation: Some(Box::new(Creation::new(create))) }
    }

    /// Goes on; the result when there is one.
    pub(super) fn step(&mut self, ground: &Ground, scratch: &mut Vec<u8>) -> Option<Result<Created, Refusal>> {
        let creation = self.creation.take()?;
        if self.client.is_gone() {
            creation.abandon(&ground.parts);
            return Some(Ok(Created::Already));
        }
        match creation.step(&ground.jail, &ground.parts, scratch) {
            Ok(CreateStep::Again(creation)) => {
                self.creation = Some(creation);
                None
            }
            Ok(CreateStep::Done(created)) => Some(Ok(created)),
            Err(refusal) => Some(Err(refusal)),
        }
    }

    /// Gives it up.
    pub(super) fn abandon(self, ground: &Ground) {
        if let Some(creation) = self.creation {
            creation.abandon(&ground.parts);
        }
    }
}

/// What became of one step of an upload; `None` for the upload when it is used up.
pub(super) fn upload_step(
    ground: &Ground,
    upload: Option<Box<Upload>>,
    failure: &mut Option<Refusal>,
    step: Step,
) -> (Option<Box<Upload>>, Result<DiskDone, Refusal>) {
    let Some(mut upload) = upload else {
        let refusal = failure.clone().unwrap_or_else(|| Refusal::new(ErrorCode::NotFound, "the upload has ended"));
        // Nothing is left to let go of.
        let released = matches!(step, Step::Release { .. });
        return (None, if released { Ok(DiskDone::Done) } else { Err(refusal) });
    };
    match step {
        Step::Write(buffer) => match upload.write(&ground.parts, &buffer) {
            Ok(()) => (Some(upload), Ok(DiskDone::Written { buffer })),
            Err(refusal) => {
                // The space comes back at once, not when the client lets go.
                upload.release(&ground.parts, false);
                *failure = Some(refusal.clone());
                (None, Err(refusal))
            }
        },
        Step::Finish(expected) => {
            let finished = upload.finish(&ground.jail, &ground.parts, expected);
            (None, finished.map(|blake3| DiskDone::Finished { blake3 }))
        }
        Step::Release { keep } => {
            upload.release(&ground.parts, keep);
            (None, Ok(DiskDone::Done))
        }
    }
}
