//! How an upload begins: the destination is looked at, an existing file with
//! the promised content is recognised, and what is there of an earlier attempt
//! is read again for its checksum. The two that read files go in steps.

use super::hashing::Hashing;
use super::jail::{self, Jail};
use super::parts::Parts;
use super::refusal::{because, on};
use super::tree;
use super::upload::{Upload, modified, parent, taken};
use crate::proto::files::{Checksum, Create};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::request::IfExists;
use rustix::fd::OwnedFd;
use rustix::fs::{self as sys, AtFlags, FileType, Mode};
use rustix::io::{Errno, retry_on_intr};

/// An upload that is about to begin.
#[derive(Debug)]
pub(super) struct Creation {
    create: Create,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Look,
    /// The destination exists and may have the content already.
    Compare(OwnedFd, Hashing, Checksum),
    Begin,
    /// A part has bytes already.
    Reread(Box<Upload>, Hashing),
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Created {
    Upload(Box<Upload>),
    Already,
}

/// What remains to be done.
pub(super) enum Step {
    Again(Box<Creation>),
    Done(Created),
}

impl Creation {
    pub(super) fn new(create: Create) -> Self {
        Creation { create, stage: Stage::Look }
    }

    pub(super) fn step(
        mut self: Box<Self>,
        jail: &Jail,
        parts: &Parts,
        scratch: &mut Vec<u8>,
    ) -> Result<Step, Refusal> {
        let create = &self.create;
        let path = &create.path;
        self.stage = match self.stage {
            Stage::Look => match look(jail, create)? {
                Some((file, expected)) => Stage::Compare(file, Hashing::default(), expected),
                None => Stage::Begin,
            },
            Stage::Compare(file, mut hashing, expected) => {
                if !hashing.step(&file, create.length, scratch).map_err(on(path))? {
                    Stage::Compare(file, hashing, expected)
                } else if hashing.at == create.length && hashing.hasher.finalize() == expected {
                    adopt(&file, create).map_err(on(path))?;
                    return Ok(Step::Done(Created::Already));
                } else if create.exists == IfExists::Fail {
                    return Err(taken(path));
                } else {
                    Stage::Begin
                }
            }
            Stage::Begin => {
                let upload = Box::new(Upload::begin(jail, parts, create)?);
                if upload.offset() == 0 {
                    return Ok(Step::Done(Created::Upload(upload)));
                }
                Stage::Reread(upload, Hashing::default())
            }
            Stage::Reread(mut upload, mut hashing) => {
                let offset = upload.offset();
                match hashing.step(&upload.part.file, offset, scratch) {
                    Ok(true) if hashing.at == offset => {
                        upload.hasher = hashing.hasher;
                        return Ok(Step::Done(Created::Upload(upload)));
                    }
                    Ok(false) => Stage::Reread(upload, hashing),
                    result => {
                        // What cannot be read again is of no use.
                        upload.release(parts, false);
                        return Err(super::refusal::refuse(path, result.err().unwrap_or(Errno::IO)));
                    }
                }
            }
        };
        Ok(Step::Again(self))
    }

    /// Gives it up, because nobody waits for it any more.
    pub(super) fn abandon(self, parts: &Parts) {
        if let Stage::Reread(upload, _) = self.stage {
            upload.release(parts, true);
        }
    }
}

/// Whether the upload may begin; a file that may have its content already.
fn look(jail: &Jail, create: &Create) -> Result<Option<(OwnedFd, Checksum)>, Refusal> {
    let path = &create.path;
    let (above, name) = jail::split(path);
    if create.parents {
        tree::make_parents(jail, above).map_err(on(path))?;
    }
    let directory = parent(jail, path)?;
    let there = match sys::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        there => there.map_err(on(path))?,
    };
    let kind = FileType::from_raw_mode(there.st_mode);
    match kind {
        FileType::Directory => return Err(super::refusal::refuse(path, Errno::ISDIR)),
        FileType::Symlink => tree::check_link(jail, path)?,
        FileType::RegularFile => {
            if let Some(expected) = create.blake3.filter(|_| jail::length(&there) == create.length) {
                let (file, _) = jail.file(path).map_err(on(path))?;
                return Ok(Some((file, expected)));
            }
        }
        _ if create.exists == IfExists::Replace => {
            return Err(because(ErrorCode::NotAFile, path, "neither a file nor a link, and not replaced by one"));
        }
        _ => {}
    }
    if create.exists == IfExists::Fail { Err(taken(path)) } else { Ok(None) }
}

/// A file that has the content already also gets the mode and time that were
/// asked for; where replacing it was not, it is left alone.
fn adopt(file: &OwnedFd, create: &Create) -> rustix::io::Result<()> {
    if create.exists == IfExists::Replace {
        if let Some(mode) = create.mode {
            sys::fchmod(file, Mode::from_raw_mode(mode))?;
        }
        if let Some(ms) = create.mtime_ms {
            sys::futimens(file, &modified(ms))?;
        }
    }
    retry_on_intr(|| sys::fsync(file))
}
