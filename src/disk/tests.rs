//! The disk on a real file system, asked as a driver asks it.

mod names;
mod parts;
mod transfers;

use super::*;
use crate::proto::files::{Checksum, Create, Ticket};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::files::{Entry, Kind, Status};
use crate::wire::request::IfExists;
use std::collections::HashMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

/// A driver that waits for each answer.
struct Driver {
    disk: Disk,
    woken: Receiver<()>,
    answers: HashMap<(ConnId, Ticket), Result<DiskDone, Refusal>>,
    warmed: usize,
    tickets: u64,
    root: PathBuf,
    _dir: Option<TempDir>,
}

const ONE: ConnId = ConnId(1);
const TWO: ConnId = ConnId(2);

impl Driver {
    fn new() -> Driver {
        let dir = tempfile::tempdir().unwrap();
        let mut driver = Driver::at(dir.path(), Options::default());
        driver._dir = Some(dir);
        driver
    }

    fn at(root: &Path, options: Options) -> Driver {
        let (wake, woken) = channel();
        // A wake that comes when the test is over is of no interest.
        let notify = move || wake.send(()).unwrap_or(());
        let disk = Disk::open_with(root, notify, options).unwrap();
        let answers = HashMap::new();
        Driver { disk, woken, answers, warmed: 0, tickets: 0, root: root.to_owned(), _dir: None }
    }

    fn submit(&mut self, conn: ConnId, op: DiskOp) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.disk.submit(conn, DiskRequest { ticket, op });
        ticket
    }

    fn collect(&mut self) {
        while let Some(completion) = self.disk.poll() {
            match completion {
                Completion::Reply(conn, reply) => drop(self.answers.insert((conn, reply.ticket), reply.result)),
                Completion::Warm(_) => self.warmed += 1,
            }
        }
    }

    fn wait_until(&mut self, done: impl Fn(&mut Driver) -> bool) {
        loop {
            self.collect();
            if done(self) {
                return;
            }
            self.woken.recv_timeout(Duration::from_secs(60)).expect("the disk wakes its driver");
        }
    }

    fn answer(&mut self, conn: ConnId, ticket: Ticket) -> Result<DiskDone, Refusal> {
        self.wait_until(|driver| driver.answers.contains_key(&(conn, ticket)));
        self.answers.remove(&(conn, ticket)).unwrap()
    }

    fn ask(&mut self, op: DiskOp) -> Result<DiskDone, Refusal> {
        let ticket = self.submit(ONE, op);
        self.answer(ONE, ticket)
    }

    fn refused(&mut self, op: DiskOp) -> ErrorCode {
        let refusal = self.ask(op).unwrap_err();
        let root = self.root.to_str().unwrap();
        assert!(!refusal.message.contains(root), "{refusal} names a path outside the root");
        refusal.code
    }

    fn create(&mut self, create: Create) -> Result<(FileHandle, u64), Refusal> {
        match self.ask(DiskOp::Create(Box::new(create)))? {
            DiskDone::Created { file, offset } => Ok((file, offset)),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, file: FileHandle, bytes: &[u8]) -> Result<(), Refusal> {
        self.ask(DiskOp::Write { file, bytes: bytes.to_vec() }).map(drop)
    }

    fn finish(&mut self, file: FileHandle) -> Result<Checksum, Refusal> {
        match self.ask(DiskOp::Finish { file, blake3: None })? {
            DiskDone::Finished { blake3 } => Ok(blake3),
            other => panic!("{other:?}"),
        }
    }

    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<Checksum, Refusal> {
        let (file, _) = self.create(put(path, bytes.len()))?;
        self.write(file, bytes)?;
        self.finish(file)
    }

    fn stat(&mut self, path: &str) -> Result<Status, Refusal> {
        match self.ask(DiskOp::Stat { path: path.into() })? {
            DiskDone::Status(status) => Ok(status),
            other => panic!("{other:?}"),
        }
    }

    /// A page as names, whether there is more, and how many names were skipped.
    fn list(&mut self, path: &str, after: Option<&str>, limit: usize) -> (Vec<String>, bool, u64) {
        let op = DiskOp::List { path: path.into(), after: after.map(str::to_owned), limit };
        match self.ask(op).unwrap() {
            DiskDone::Listed { entries, more, skipped } => {
                assert!(entries.len() <= crate::wire::MAX_BODY);
                let entries: Vec<Entry<'_>> = serde_json::from_slice(&entries).unwrap();
                (entries.iter().map(|entry| entry.name.to_string()).collect(), more, skipped)
            }
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, path: &str) -> (FileHandle, u64) {
        match self.ask(DiskOp::Open { path: path.into() }).unwrap() {
            DiskDone::Opened { file, total, .. } => (file, total),
            other => panic!("{other:?}"),
        }
    }

    /// Names in the root's own directory that the server keeps for itself.
    fn hidden(&self, below: &str) -> Vec<String> {
        let names = std::fs::read_dir(self.root.join(below)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap_or_default());
        names.filter(|name| name.starts_with(".reactord-") && name != ".reactord-parts").collect()
    }
}

fn put(path: &str, length: usize) -> Create {
    Create {
        path: path.into(),
        length: length as u64,
        exists: IfExists::Fail,
        parents: false,
        key: None,
        mtime_ms: None,
        mode: None,
        blake3: None,
    }
}

fn replace(path: &str, length: usize) -> Create {
    Create { exists: IfExists::Replace, ..put(path, length) }
}

fn remove(path: &str) -> DiskOp {
    DiskOp::Remove { path: path.into() }
}

fn mkdir(path: &str, parents: bool) -> DiskOp {
    DiskOp::Mkdir { path: path.into(), parents }
}

fn rename(path: &str, to: &str, exists: IfExists) -> DiskOp {
    DiskOp::Rename { path: path.into(), to: to.into(), exists }
}

#[test]
fn every_operation_refuses_what_leads_outside() {
    let mut driver = Driver::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("f"), "outside").unwrap();
    symlink(outside.path(), driver.root.join("out")).unwrap();
    symlink(outside.path().join("f"), driver.root.join("leak")).unwrap();
    std::fs::write(driver.root.join("own"), "own").unwrap();
    let path = || "out/f".to_owned();
    for op in [
        DiskOp::Open { path: path() },
        DiskOp::Open { path: "leak".into() },
        DiskOp::Hash { path: path() },
        DiskOp::Stat { path: path() },
        DiskOp::Stat { path: "leak".into() },
        DiskOp::List { path: "out".into(), after: None, limit: 9 },
        DiskOp::Create(Box::new(replace("out/f", 1))),
        DiskOp::Create(Box::new(replace("leak", 1))),
        DiskOp::Create(Box::new(Create { parents: true, ..put("out/new/f", 1) })),
        mkdir("out/d", false),
        mkdir("out/d/e", true),
        remove("out/f"),
        rename("out/f", "stolen", IfExists::Fail),
        rename("own", "out/given", IfExists::Fail),
    ] {
        let shown = format!("{op:?}");
        assert_eq!(driver.refused(op), ErrorCode::InvalidPath, "{shown}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read(outside.path().join("f")).unwrap(), b"outside");
    // The link itself is inside.
    driver.ask(rename("leak", "renamed", IfExists::Fail)).unwrap();
    driver.ask(remove("renamed")).unwrap();
    assert!(outside.path().join("f").exists());
}

#[test]
fn an_upload_never_follows_a_directory_out_that_is_swapped_with_a_link() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let mut driver = Driver::new();
    let outside = tempfile::tempdir().unwrap();
    let (inside, link) = (driver.root.join("d"), driver.root.join("l"));
    std::fs::create_dir(&inside).unwrap();
    symlink(outside.path(), &link).unwrap();
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            for _ in 0..5_000 {
                renameat_with(CWD, &inside, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        while !swapper.is_finished() {
            // Either it is refused or it lands inside.
            if let Ok((file, _)) = driver.create(replace("d/f", 1)) {
                drop(driver.write(file, b"x"));
                drop(driver.finish(file));
            }
            drop(driver.ask(mkdir("d/sub", false)));
            drop(driver.ask(remove("d/sub")));
        }
    });
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn only_regular_files_are_read_or_replaced() {
    let mut driver = Driver::new();
    rustix::fs::mkfifoat(rustix::fs::CWD, driver.root.join("fifo"), rustix::fs::Mode::RWXU).unwrap();
    std::fs::create_dir(driver.root.join("d")).unwrap();
    std::fs::write(driver.root.join("f"), "").unwrap();
    let at = |path: &str| path.to_owned();
    for (op, code) in [
        (DiskOp::Open { path: at("fifo") }, ErrorCode::NotAFile),
        (DiskOp::Hash { path: at("fifo") }, ErrorCode::NotAFile),
        (DiskOp::Create(Box::new(replace("fifo", 1))), ErrorCode::NotAFile),
        (DiskOp::Open { path: at("d") }, ErrorCode::IsDirectory),
        (DiskOp::Create(Box::new(replace("d", 1))), ErrorCode::IsDirectory),
        (DiskOp::Create(Box::new(put("d", 1))), ErrorCode::IsDirectory),
        (DiskOp::Open { path: at("none") }, ErrorCode::NotFound),
        (DiskOp::Open { path: at("f/x") }, ErrorCode::NotDirectory),
        (DiskOp::Create(Box::new(put("f/x", 1))), ErrorCode::NotDirectory),
        (DiskOp::Create(Box::new(Create { parents: true, ..put("f/x/y", 1) })), ErrorCode::NotDirectory),
        (DiskOp::Create(Box::new(put("none/x", 1))), ErrorCode::NotFound),
        (DiskOp::List { path: at("f"), after: None, limit: 1 }, ErrorCode::NotDirectory),
        (DiskOp::List { path: at("none"), after: None, limit: 1 }, ErrorCode::NotFound),
    ] {
        let shown = format!("{op:?}");
        assert_eq!(driver.refused(op), code, "{shown}");
    }
    assert!(std::fs::symlink_metadata(driver.root.join("fifo")).unwrap().file_type().is_fifo());
}

#[test]
fn nothing_of_a_connection_that_is_gone_is_answered_or_left() {
    let mut driver = Driver::new();
    driver.put("f", b"content").unwrap();
    for _ in 0..50 {
        driver.submit(TWO, DiskOp::Open { path: "f".into() });
        driver.submit(TWO, DiskOp::Hash { path: "f".into() });
        driver.submit(TWO, DiskOp::Create(Box::new(put("g", 5))));
        driver.disk.gone(TWO);
    }
    driver.wait_until(|driver| {
        let counters = driver.disk.counters();
        (counters.uploads, counters.downloads, counters.queued) == (0, 0, 0) || {
            // Each answer on another connection tells that the workers went on.
            driver.submit(ONE, DiskOp::Stat { path: "".into() });
            false
        }
    });
    assert!(driver.disk.shutdown(Duration::from_secs(10)));
    driver.collect();
    assert!(driver.answers.keys().all(|(conn, _)| *conn == ONE));
    assert_eq!(driver.hidden(""), Vec::<String>::new());
}

#[test]
fn hashes_come_when_they_come_and_can_be_stopped() {
    let mut driver = Driver::new();
    let sparse = std::fs::File::create(driver.root.join("big")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    driver.put("small", b"abc").unwrap();
    let endless = driver.submit(ONE, DiskOp::Hash { path: "big".into() });
    let second = driver.submit(ONE, DiskOp::Hash { path: "big".into() });
    let third = driver.submit(ONE, DiskOp::Hash { path: "big".into() });
    // More of them than workers hold nothing up.
    match driver.ask(DiskOp::Hash { path: "small".into() }).unwrap() {
        DiskDone::Hashed { blake3, length } => {
            assert_eq!((blake3, length), (*blake3::hash(b"abc").as_bytes(), 3));
        }
        other => panic!("{other:?}"),
    }
    for ticket in [endless, second] {
        driver.ask(DiskOp::StopHash { ticket }).unwrap();
        assert_eq!(driver.answer(ONE, ticket).unwrap_err().code, ErrorCode::Cancelled);
    }
    assert!(!driver.answers.contains_key(&(ONE, third)));
    assert!(driver.disk.shutdown(Duration::from_secs(10)), "a running checksum does not keep the server");
}
