//! A disk in memory: what the file service asks for, done when the test says
//! so, and refused from the Nth operation on where it says that too.

use reactord::proto::ConnId;
use reactord::proto::files::{Create, DiskDone, DiskOp, DiskReply, DiskRequest, FileHandle};
use reactord::wire::error::{ErrorCode, Refusal};
use reactord::wire::files::{Entry, Kind, Status};
use reactord::wire::request::IfExists;
use serde_json::json;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Milliseconds since the Unix epoch, the time of every file.
const MTIME_MS: i64 = 1_700_000_000_000;

#[derive(Debug)]
enum Open {
    Read { conn: ConnId, path: String, content: Arc<Vec<u8>>, changed: bool },
    Write { conn: ConnId, create: Create, bytes: Vec<u8>, failed: Option<Refusal> },
}

/// The disk.
#[derive(Debug, Default)]
pub struct Disk {
    pub files: BTreeMap<String, Arc<Vec<u8>>>,
    pub dirs: BTreeSet<String>,
    open: BTreeMap<FileHandle, Open>,
    pending: Vec<(ConnId, DiskRequest)>,
    handles: u64,
    done: u64,
    /// The number of the operation that fails, counted from 1.
    pub fail_at: Option<u64>,
}

fn refuse<T>(code: ErrorCode, message: &str) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}

/// The handle whose operations keep their order.
fn handle(op: &DiskOp) -> Option<FileHandle> {
    match op {
        DiskOp::Check { file }
        | DiskOp::Close { file }
        | DiskOp::Write { file, .. }
        | DiskOp::Finish { file, .. }
        | DiskOp::Release { file, .. } => Some(*file),
        _ => None,
    }
}

impl Disk {
    pub fn put(&mut self, path: &str, content: Vec<u8>) {
        self.files.insert(path.to_owned(), Arc::new(content));
    }

    pub fn submit(&mut self, conn: ConnId, request: DiskRequest) {
        self.pending.push((conn, request));
    }

    /// How many operations wait.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.open.len()
    }

    /// Does one of the operations that wait, chosen by `pick` among those
    /// whose file has no earlier one.
    pub fn complete(&mut self, pick: usize) -> Option<(ConnId, DiskReply)> {
        let mut seen = BTreeSet::new();
        let mut free = Vec::new();
        for (at, (_, request)) in self.pending.iter().enumerate() {
            if handle(&request.op).is_none_or(|file| seen.insert(file)) {
                free.push(at);
            }
        }
        let at = *free.get(pick.checked_rem(free.len())?)?;
        let (conn, DiskRequest { ticket, op }) = self.pending.remove(at);
        self.done += 1;
        let result = if self.fail_at == Some(self.done) { self.fail(op) } else { self.perform(conn, op) };
        Some((conn, DiskReply { ticket, result }))
    }

    /// A connection is gone: nobody waits for its answers, and what it holds
    /// open is closed once its operations are done. Returns how many files its
    /// session had left open.
    pub fn gone(&mut self, conn: ConnId) -> usize {
        while let Some(at) = self.pending.iter().position(|(owner, _)| *owner == conn) {
            let (_, request) = self.pending.remove(at);
            // What would only now be opened is of no use to anybody.
            if !matches!(request.op, DiskOp::Open { .. } | DiskOp::Create(_)) {
                // Nobody waits for the answer.
                let _ = self.perform(conn, request.op);
            }
        }
        let before = self.open.len();
        self.open.retain(|_, open| match open {
            Open::Read { conn: owner, .. } | Open::Write { conn: owner, .. } => *owner != conn,
        });
        before - self.open.len()
    }

    /// The bytes of an open file at `offset`, at most `length`.
    pub fn read(&self, file: FileHandle, offset: u64, length: usize) -> &[u8] {
        let Some(Open::Read { content, .. }) = self.open.get(&file) else { return &[] };
        let from = usize::try_from(offset).unwrap().min(content.len());
        &content[from..content.len().min(from + length)]
    }

    /// Cuts a file, also under the hands of those who read it.
    pub fn truncate(&mut self, path: &str, length: usize) {
        let Some(file) = self.files.get_mut(path) else { return };
        Arc::make_mut(file).truncate(length);
        let cut = Arc::clone(file);
        for open in self.open.values_mut() {
            if let Open::Read { path: open, content, changed, .. } = open
                && open == path
            {
                *content = Arc::clone(&cut);
                *changed = true;
            }
        }
    }

    /// The operation goes wrong, as on a disk that is full or broken.
    fn fail(&mut self, op: DiskOp) -> Result<DiskDone, Refusal> {
        let refusal = Refusal::new(ErrorCode::NoSpace, "the disk is full");
        match op {
            DiskOp::Write { file, .. } => {
                if let Some(Open::Write { failed, .. }) = self.open.get_mut(&file) {
                    *failed = Some(refusal.clone());
                }
            }
            DiskOp::Finish { file, .. } | DiskOp::Release { file, .. } | DiskOp::Close { file } => {
                self.open.remove(&file);
            }
            _ => {}
        }
        Err(refusal)
    }

    fn new_handle(&mut self, open: Open) -> FileHandle {
        self.handles += 1;
        self.open.insert(FileHandle(self.handles), open);
        FileHandle(self.handles)
    }

    fn perform(&mut self, conn: ConnId, op: DiskOp) -> Result<DiskDone, Refusal> {
        match op {
            DiskOp::Open { path } => {
                let content = self.file(&path)?;
                let total = content.len() as u64;
                let file = self.new_handle(Open::Read { conn, path, content, changed: false });
                Ok(DiskDone::Opened { file, total, mtime_ms: MTIME_MS, mode: 0o644 })
            }
            DiskOp::Check { file } => match self.open.get(&file) {
                Some(Open::Read { changed: false, .. }) => Ok(DiskDone::Done),
                Some(Open::Read { .. }) => refuse(ErrorCode::Changed, "the file changed"),
                other => panic!("check of {other:?}"),
            },
            DiskOp::Close { file } => match self.open.remove(&file) {
                Some(Open::Read { .. }) => Ok(DiskDone::Done),
                other => panic!("close of {other:?}"),
            },
            DiskOp::Create(create) => self.create(conn, *create),
            DiskOp::Write { file, bytes } => match self.open.get_mut(&file) {
                Some(Open::Write { failed: Some(refusal), .. }) => Err(refusal.clone()),
                Some(Open::Write { create, bytes: written, .. }) => {
                    written.extend_from_slice(&bytes);
                    assert!(written.len() as u64 <= create.length, "more than announced");
                    Ok(DiskDone::Written { buffer: bytes })
                }
                other => panic!("write to {other:?}"),
            },
            DiskOp::Finish { file, .. } => match self.open.remove(&file) {
                Some(Open::Write { failed: Some(refusal), .. }) => Err(refusal),
                Some(Open::Write { create, bytes, .. }) => {
                    assert_eq!(bytes.len() as u64, create.length, "an upload is published whole or not at all");
                    let blake3 = *blake3::hash(&bytes).as_bytes();
                    self.put(&create.path, bytes);
                    Ok(DiskDone::Finished { blake3 })
                }
                other => panic!("finish of {other:?}"),
            },
            DiskOp::Release { file, .. } => match self.open.remove(&file) {
                Some(Open::Write { .. }) => Ok(DiskDone::Done),
                other => panic!("release of {other:?}"),
            },
            DiskOp::List { after, limit, .. } => self.list(after.as_deref(), limit),
            DiskOp::Stat { path } => Ok(DiskDone::Status(self.status(&path)?)),
            DiskOp::Hash { path } => {
                let content = self.file(&path)?;
                let blake3 = *blake3::hash(&content).as_bytes();
                Ok(DiskDone::Hashed { blake3, length: content.len() as u64 })
            }
            DiskOp::StopHash { .. } => Ok(DiskDone::Done),
            DiskOp::Mkdir { path, .. } => match self.dirs.insert(path) {
                true => Ok(DiskDone::Done),
                false => refuse(ErrorCode::Exists, "it is there"),
            },
            DiskOp::Remove { path } => {
                self.file(&path)?;
                self.files.remove(&path);
                Ok(DiskDone::Done)
            }
            DiskOp::Rename { path, to, .. } => {
                let content = self.file(&path)?;
                self.files.remove(&path);
                self.files.insert(to, content);
                Ok(DiskDone::Done)
            }
        }
    }

    fn create(&mut self, conn: ConnId, create: Create) -> Result<DiskDone, Refusal> {
        if create.exists == IfExists::Fail && self.files.contains_key(&create.path) {
            return refuse(ErrorCode::Exists, "it is there");
        }
        let file = self.new_handle(Open::Write { conn, create, bytes: Vec::new(), failed: None });
        Ok(DiskDone::Created { file, offset: 0 })
    }

    fn file(&self, path: &str) -> Result<Arc<Vec<u8>>, Refusal> {
        match self.files.get(path) {
            Some(content) => Ok(Arc::clone(content)),
            None => refuse(ErrorCode::NotFound, "there is no such file"),
        }
    }

    fn status(&self, path: &str) -> Result<Status, Refusal> {
        if path.is_empty() || self.dirs.contains(path) {
            return Ok(Status { kind: Kind::Dir, length: 0, mtime_ms: MTIME_MS, mode: 0o755 });
        }
        let length = self.file(path)?.len() as u64;
        Ok(Status { kind: Kind::File, length, mtime_ms: MTIME_MS, mode: 0o644 })
    }

    fn list(&self, after: Option<&str>, limit: usize) -> Result<DiskDone, Refusal> {
        let names: Vec<&String> =
            self.files.keys().filter(|name| after.is_none_or(|after| name.as_str() > after)).collect();
        let entries: Vec<_> = names.iter().take(limit).map(|name| self.entry(name)).collect();
        let more = names.len() > limit;
        Ok(DiskDone::Listed { entries: json!(entries).to_string().into(), more, skipped: 0 })
    }

    fn entry<'a>(&self, name: &'a str) -> Entry<'a> {
        Entry { name: Cow::Borrowed(name), status: self.status(name).expect("it is listed") }
    }
}
