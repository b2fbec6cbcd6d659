//! The request that waits for the disk, and how the disk's answer becomes its
//! own.

use super::{DiskDone, DiskOp, FileHandle, Files, Outbox, Ticket};
use crate::wire::error::Refusal;
use crate::wire::files as wire;
use crate::wire::reply::{Answer, Plain};

/// The request that waits for the disk.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) cmd: &'static str,
    pub(super) id: Option<u64>,
    pub(super) then: Then,
}

/// How the disk's answer becomes the request's.
#[derive(Debug)]
pub(super) enum Then {
    /// The answer says what the operation found.
    Answer,
    /// `get`: the range that was asked for.
    Download { id: u64, offset: u64, length: Option<u64> },
    /// `put`.
    Upload { id: u64, path: String, length: u64 },
    /// `end`: of which upload, and whether one of its writes failed meanwhile.
    Finish { file: FileHandle, path: String, length: u64, failed: bool },
    /// The refusal was settled before, and waited only for its consequences.
    Refuse(Refusal),
}

impl Files {
    pub(super) fn wait(&mut self, cmd: &'static str, id: Option<u64>, op: DiskOp, then: Then, out: &mut Outbox) {
        debug_assert!(self.waiting.is_none(), "requests come one after the other");
        let ticket = self.tickets.ask(op, out);
        self.waiting = Some(Waiting { ticket, cmd, id, then });
    }

    pub(super) fn waited(&mut self, waiting: Waiting, result: Result<DiskDone, Refusal>, out: &mut Outbox) {
        let Waiting { cmd, id, then, .. } = waiting;
        if self.abandoned {
            // Nobody will take what was opened meanwhile.
            match result {
                Ok(DiskDone::Opened { file, .. }) => drop(self.tickets.ask(DiskOp::Close { file }, out)),
                Ok(DiskDone::Created { file, .. }) => drop(self.tickets.ask(DiskOp::Release { file, keep: true }, out)),
                _ => {}
            }
            return;
        }
        match (then, result) {
            (Then::Refuse(refusal), _) => out.refuse(Some(cmd), id, &refusal),
            (Then::Download { id, offset, length }, Ok(DiskDone::Opened { file, total, mtime_ms, mode })) => {
                let begin = offset.min(total);
                let length = length.unwrap_or(u64::MAX).min(total - begin);
                out.answer(cmd, Some(id), wire::Download { length, total, mtime_ms, mode });
                self.downloads.begin(id, file, begin, length);
                self.downloads.pump(&mut self.tickets, out);
            }
            (Then::Upload { id, path, length }, Ok(DiskDone::Created { file, offset })) => {
                out.answer(cmd, Some(id), wire::Upload { offset, already: false });
                self.uploads.begin(id, file, path, length, offset);
            }
            (Then::Upload { id, length, .. }, Ok(DiskDone::Already)) => {
                out.answer(cmd, Some(id), wire::Upload { offset: length, already: true });
            }
            (Then::Upload { id, .. }, Err(refusal)) => {
                out.refuse(Some(cmd), Some(id), &refusal);
                self.uploads.remember_failed(id, refusal, false);
            }
            (Then::Finish { path, length, .. }, Ok(DiskDone::Finished { blake3 })) => {
                out.answer(cmd, id, wire::Stored { path, length, blake3: hex::encode(blake3) });
            }
            (_, result) => answer(cmd, id, result, out),
        }
    }
}

/// Answers with what the operation found.
pub(super) fn answer(cmd: &str, id: Option<u64>, result: Result<DiskDone, Refusal>, out: &mut Outbox) {
    match result {
        Ok(DiskDone::Listed { entries, more, skipped }) => {
            let page = wire::ListPage { size: entries.len(), more, skipped };
            out.queue.frame_shared(&Answer::new(cmd, id, page), entries);
        }
        Ok(DiskDone::Status(status)) => out.answer(cmd, id, status),
        Ok(DiskDone::Hashed { blake3, length }) => {
            out.answer(cmd, id, wire::Checksum { blake3: hex::encode(blake3), length });
        }
        Ok(_) => out.answer(cmd, id, Plain {}),
        Err(refusal) => out.refuse(Some(cmd), id, &refusal),
    }
}
