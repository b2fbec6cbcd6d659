//! What the file service asks of a disk, and what a disk answers: plain values.

use crate::wire::error::Refusal;
use crate::wire::files::Status;
use crate::wire::request::IfExists;
use bytes::Bytes;

/// An open file, as its driver knows it; no two of a server are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileHandle(pub u64);

/// Pairs an answer of the disk with its request; chosen by the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// A BLAKE3 checksum.
pub type Checksum = [u8; 32];

/// A disk operation. Every one is answered, also those whose answer says nothing.
#[derive(Debug)]
pub struct DiskRequest {
    /// Comes back with the answer.
    pub ticket: Ticket,
    /// What to do.
    pub op: DiskOp,
}

/// What to do. Paths have passed [`crate::proto::paths`]; whether they lead
/// outside the root is for the disk to see. Operations on one [`FileHandle`]
/// are done in their order, all others in any.
#[derive(Debug)]
pub enum DiskOp {
    /// Open a regular file for a download: [`DiskDone::Opened`].
    Open {
        /// The file.
        path: String,
    },
    /// Refuse with `changed` where the file is no more what it was at `Open`:
    /// [`DiskDone::Done`].
    Check {
        /// An opened file.
        file: FileHandle,
    },
    /// Close a file from `Open`: [`DiskDone::Done`].
    Close {
        /// An opened file.
        file: FileHandle,
    },
    /// Begin an upload: [`DiskDone::Created`] or [`DiskDone::Already`].
    Create(Box<Create>),
    /// Append to an upload: [`DiskDone::Written`]. After one that failed,
    /// the upload's later operations fail alike and nothing of it is left.
    Write {
        /// An upload.
        file: FileHandle,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Publish an upload under its name, durably: [`DiskDone::Finished`]. The
    /// handle is used up, whatever the answer.
    Finish {
        /// An upload all of whose bytes were written.
        file: FileHandle,
        /// What the content must be, beside what `Create` said.
        blake3: Option<Checksum>,
    },
    /// Give an upload up: [`DiskDone::Done`]. The handle is used up.
    Release {
        /// An upload.
        file: FileHandle,
        /// Whether to keep its part, where it has a key.
        keep: bool,
    },
    /// Describe the entries of a directory: [`DiskDone::Listed`].
    List {
        /// The directory; "" for the root.
        path: String,
        /// Begin behind this name.
        after: Option<String>,
        /// The most entries.
        limit: usize,
    },
    /// Describe what a path leads to: [`DiskDone::Status`].
    Stat {
        /// Anything; "" for the root.
        path: String,
    },
    /// Compute a file's checksum: [`DiskDone::Hashed`].
    Hash {
        /// The file.
        path: String,
    },
    /// Stop a `Hash`, whose answer is of no interest any more: [`DiskDone::Done`].
    StopHash {
        /// That of the `Hash`.
        ticket: Ticket,
    },
    /// Make a directory: [`DiskDone::Done`].
    Mkdir {
        /// The directory.
        path: String,
        /// Whether to make those above it too.
        parents: bool,
    },
    /// Remove a file, a link or an empty directory: [`DiskDone::Done`].
    Remove {
        /// What to remove.
        path: String,
    },
    /// Rename in one step: [`DiskDone::Done`].
    Rename {
        /// The old name.
        path: String,
        /// The new one.
        to: String,
        /// What to do where that is taken.
        exists: IfExists,
    },
}

/// An upload that begins.
#[derive(Clone, Debug)]
pub struct Create {
    /// The name under which it will be published.
    pub path: String,
    /// Its whole length, in bytes.
    pub length: u64,
    /// What to do where the name is taken.
    pub exists: IfExists,
    /// Whether to make the directories above it.
    pub parents: bool,
    /// Where given, what is durable of an interrupted upload is kept for the
    /// next one with the same path, length and key.
    pub key: Option<String>,
    /// The modification time to set, in milliseconds since the Unix epoch.
    pub mtime_ms: Option<i64>,
    /// The permission bits to set, within 0o777.
    pub mode: Option<u32>,
    /// What the content must be.
    pub blake3: Option<Checksum>,
}

/// The answer to a [`DiskRequest`].
#[derive(Debug)]
pub struct DiskReply {
    /// The request's.
    pub ticket: Ticket,
    /// What came of it. A refusal is worded for the client.
    pub result: Result<DiskDone, Refusal>,
}

/// What came of a disk operation.
#[derive(Debug)]
pub enum DiskDone {
    /// It is done.
    Done,
    /// A file is open for reading.
    Opened {
        /// The file.
        file: FileHandle,
        /// Its length, in bytes.
        total: u64,
        /// Its modification time, in milliseconds since the Unix epoch.
        mtime_ms: i64,
        /// Its permission bits.
        mode: u32,
    },
    /// An upload may go on.
    Created {
        /// The upload.
        file: FileHandle,
        /// How many bytes of it are there from an earlier attempt.
        offset: u64,
    },
    /// The file is there already, with the content that was promised.
    Already,
    /// The bytes were written; here is their buffer, for more.
    Written {
        /// The buffer of the `Write`.
        buffer: Vec<u8>,
    },
    /// An upload is durable under its name.
    Finished {
        /// Its content.
        blake3: Checksum,
    },
    /// A page of a directory.
    Listed {
        /// A JSON array of [`crate::wire::files::Entry`], within the cap on bodies.
        entries: Bytes,
        /// Whether there are further ones.
        more: bool,
        /// How many names of the directory were not UTF-8.
        skipped: u64,
    },
    /// What a path leads to.
    Status(Status),
    /// A file's checksum.
    Hashed {
        /// The checksum.
        blake3: Checksum,
        /// The file's length, in bytes.
        length: u64,
    },
}
