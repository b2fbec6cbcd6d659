//! One request of a plain client, and what of it is under way at the disk.
//!
//! ```text
//!   put   Create, Write..., Finish         (refused: its bytes are thrown away)
//!   get   Open, header, stretches..., Close
//! ```

use crate::proto::files::{Create, DiskDone, DiskOp, FileHandle, Ticket, Tickets};
use crate::proto::outbox::{HIGH_WATER, LOW_WATER};
use crate::proto::{Outbox, paths};
use crate::wire::MAX_DATA;
use crate::wire::error::Refusal;
use crate::wire::request::IfExists;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// At this many bytes of an upload that wait for the disk no input is read.
pub(super) const MAX_WAITING: usize = 1 << 20;

/// The most bytes in one write to the disk.
pub(super) const BATCH: usize = 256 << 10;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Put { name: String, length: u64 },
    Get { name: String },
}

impl Request {
    /// `None` where nobody can know what was asked for, or where it ends.
    pub(super) fn parse(header: &[u8]) -> Option<Request> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Cmd {
            Put,
            Get,
        }
        #[derive(Deserialize)]
        struct Header {
            cmd: Cmd,
            filename: String,
            filesize: Option<u64>,
        }
        // serde takes an array for a struct too.
        if !header.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        let Header { cmd, filename: name, filesize } = serde_json::from_slice(header).ok()?;
        match cmd {
            Cmd::Get => Some(Request::Get { name }),
            // What an offset of the kernel can hold (off_t).
            Cmd::Put => Some(Request::Put { name, length: filesize.filter(|length| *length <= i64::MAX as u64)? }),
        }
    }
}

/// The answer to a `get`; the file follows where it is one.
#[derive(Serialize)]
struct Found {
    #[serde(skip_serializing_if = "Option::is_none")]
    filesize: Option<u64>,
    isfile: bool,
}

#[derive(Debug)]
struct Upload {
    file: FileHandle,
    batch: Vec<u8>,
    /// Writes at the disk, which answers them in their order, and their lengths.
    writes: VecDeque<(Ticket, usize)>,
    /// Bytes gathered or at the disk.
    waiting: usize,
}

impl Upload {
    fn write(&mut self, tickets: &mut Tickets, out: &mut Outbox) {
        if !self.batch.is_empty() {
            let bytes = std::mem::take(&mut self.batch);
            let length = bytes.len();
            self.writes.push_back((tickets.ask(DiskOp::Write { file: self.file, bytes }, out), length));
        }
    }

    fn is_writing(&self, ticket: Ticket) -> bool {
        self.writes.front().is_some_and(|(first, _)| *first == ticket)
    }

    /// The first write is done; here is its buffer, for more.
    fn written(&mut self, mut buffer: Vec<u8>, tickets: &mut Tickets, out: &mut Outbox) {
        self.waiting -= self.writes.pop_front().map_or(0, |(_, length)| length);
        if self.writes.is_empty() {
            self.write(tickets, out);
        }
        if self.batch.capacity() == 0 {
            buffer.clear();
            self.batch = buffer;
        }
    }

    fn data(&mut self, mut bytes: &[u8], tickets: &mut Tickets, out: &mut Outbox) {
        self.waiting += bytes.len();
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BATCH - self.batch.len()));
            self.batch.extend_from_slice(now);
            bytes = later;
            // While the disk is busy more is gathered.
            if self.writes.is_empty() || self.batch.len() == BATCH {
                self.write(tickets, out);
            }
        }
    }
}

#[derive(Debug)]
struct Download {
    file: FileHandle,
    /// The next byte to queue, and where to stop.
    next: u64,
    stop: u64,
}

/// What the next request waits for.
#[derive(Debug, Default)]
enum Task {
    /// Nothing; what comes and belongs to a refused `put` is thrown away.
    #[default]
    Idle,
    Creating(Ticket),
    Uploading(Upload),
    Publishing(Ticket),
    Opening(Ticket),
    Sending(Download),
}

/// The request that is being carried out.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    task: Task,
    tickets: Tickets,
}

impl Transfer {
    pub(super) fn begin(&mut self, request: Request, out: &mut Outbox) {
        self.task = match request {
            Request::Put { name, length } if paths::check(&name).is_ok() => {
                let create = Create {
                    path: name,
                    length,
                    exists: IfExists::Replace,
                    parents: false,
                    key: None,
                    mtime_ms: None,
                    mode: None,
                    blake3: None,
                };
                Task::Creating(self.tickets.ask(DiskOp::Create(Box::new(create)), out))
            }
            Request::Get { name } if paths::check(&name).is_ok() => {
                Task::Opening(self.tickets.ask(DiskOp::Open { path: name }, out))
            }
            Request::Put { .. } => Task::Idle,
            Request::Get { .. } => {
                out.queue.frame(&Found { filesize: None, isfile: false }, b"");
                Task::Idle
            }
        };
    }

    pub(super) fn data(&mut self, bytes: &[u8], out: &mut Outbox) {
        if let Task::Uploading(upload) = &mut self.task {
            upload.data(bytes, &mut self.tickets, out);
        }
    }

    /// All bytes of the request came.
    pub(super) fn end(&mut self, out: &mut Outbox) {
        if let Task::Uploading(upload) = &mut self.task {
            upload.write(&mut self.tickets, out);
            let finish = DiskOp::Finish { file: upload.file, blake3: None };
            self.task = Task::Publishing(self.tickets.ask(finish, out));
        }
    }

    pub(super) fn disk(&mut self, ticket: Ticket, result: Result<DiskDone, Refusal>, out: &mut Outbox) {
        match (&mut self.task, result) {
            (Task::Creating(asked), result) if *asked == ticket => {
                self.task = match result {
                    Ok(DiskDone::Created { file, .. }) => {
                        Task::Uploading(Upload { file, batch: Vec::new(), writes: VecDeque::new(), waiting: 0 })
                    }
                    _ => Task::Idle,
                };
            }
            (Task::Opening(asked), result) if *asked == ticket => {
                let (found, task) = match result {
                    Ok(DiskDone::Opened { file, total, .. }) => {
                        (Some(total), Task::Sending(Download { file, next: 0, stop: total }))
                    }
                    _ => (None, Task::Idle),
                };
                out.queue.frame(&Found { filesize: found, isfile: found.is_some() }, b"");
                self.task = task;
            }
            (Task::Publishing(asked), _) if *asked == ticket => self.task = Task::Idle,
            (Task::Uploading(upload), result) if upload.is_writing(ticket) => match result {
                Ok(DiskDone::Written { buffer }) => upload.written(buffer, &mut self.tickets, out),
                // The rest of what comes is thrown away.
                _ => self.drop_upload(out),
            },
            // Opened for a client that was ended meanwhile.
            (_, Ok(DiskDone::Created { file, .. })) => self.release(file, out),
            (_, Ok(DiskDone::Opened { file, .. })) => {
                self.tickets.ask(DiskOp::Close { file }, out);
            }
            // Writes of an upload that is being published or was dropped, and
            // files that were closed.
            _ => {}
        }
    }

    /// Queues more of the file while the queue is low. A stretch at a time,
    /// because what is queued of a file that shrinks becomes zeros in memory.
    /// Says whether the download has just ended.
    pub(super) fn pump(&mut self, out: &mut Outbox) -> bool {
        let Task::Sending(download) = &mut self.task else { return false };
        if out.queue.len() < LOW_WATER {
            while download.next < download.stop && out.queue.len() < HIGH_WATER {
                let length = (download.stop - download.next).min(MAX_DATA as u64) as usize;
                out.queue.file(download.file, download.next, length);
                download.next += length as u64;
            }
        }
        let sent = download.next == download.stop && !out.queue.has_file(download.file);
        if sent {
            self.close_download(out);
        }
        sent
    }

    pub(super) fn close_download(&mut self, out: &mut Outbox) {
        if let Task::Sending(Download { file, .. }) = self.task {
            self.tickets.ask(DiskOp::Close { file }, out);
            self.task = Task::Idle;
        }
    }

    pub(super) fn drop_upload(&mut self, out: &mut Outbox) {
        if let Task::Uploading(Upload { file, .. }) = self.task {
            self.release(file, out);
            self.task = Task::Idle;
        }
    }

    fn release(&mut self, file: FileHandle, out: &mut Outbox) {
        self.tickets.ask(DiskOp::Release { file, keep: false }, out);
    }

    /// The connection ends: what the disk still answers concerns nobody. A
    /// file stays open while stretches of it are queued.
    pub(super) fn forget_answers(&mut self) {
        if !self.is_sending() {
            self.task = Task::Idle;
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        matches!(self.task, Task::Sending(_))
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.task, Task::Idle)
    }

    /// Whether the client's next bytes must wait.
    pub(super) fn is_waiting(&self) -> bool {
        match &self.task {
            Task::Idle => false,
            Task::Uploading(upload) => upload.waiting >= MAX_WAITING,
            Task::Creating(_) | Task::Publishing(_) | Task::Opening(_) | Task::Sending(_) => true,
        }
    }
}
