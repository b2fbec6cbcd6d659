//! The file service on a disk that answers when the test says so.

mod downloads;
mod uploads;

use super::*;
use crate::wire::files::{Kind, Status};
use crate::wire::request::{End, FilePath, IfExists};
use crate::wire::{MAX_BODY, MAX_DATA};
use serde_json::{Value, json};
use std::io::IoSlice;

/// A service, and what it said and asked for.
#[derive(Default)]
struct Bench {
    files: Files,
    out: Outbox,
    handles: u64,
}

impl Bench {
    fn request(&mut self, id: u64, request: Request) {
        assert!(!self.files.is_waiting(), "the session takes nothing while a request waits");
        self.files.request(Some(id), request, &mut self.out);
    }

    /// The operations asked for since, with their tickets.
    fn ops(&mut self) -> Vec<(Ticket, DiskOp)> {
        let ops = self.out.effects.drain(..).map(|effect| match effect {
            Effect::Disk(DiskRequest { ticket, op }) => (ticket, op),
            other => panic!("{other:?}"),
        });
        ops.collect()
    }

    /// The one operation asked for since.
    fn op(&mut self) -> (Ticket, DiskOp) {
        let mut ops = self.ops();
        assert_eq!(ops.len(), 1, "{ops:?}");
        ops.remove(0)
    }

    fn reply(&mut self, ticket: Ticket, result: Result<DiskDone, Refusal>) {
        self.files.disk(DiskReply { ticket, result }, &mut self.out);
    }

    /// Sends everything and returns the frames' headers; bytes of files are left out.
    fn frames(&mut self) -> Vec<Value> {
        let mut bytes = Vec::new();
        let queue = &mut self.out.queue;
        while !queue.is_empty() {
            if let Some((_, _, length)) = queue.front_file() {
                queue.advance(length);
                continue;
            }
            let mut slices = [IoSlice::new(b""); 16];
            let (n, _) = queue.slices(&mut slices);
            let before = bytes.len();
            slices[..n].iter().for_each(|slice| bytes.extend_from_slice(slice));
            queue.advance(bytes.len() - before);
        }
        let mut frames = Vec::new();
        let mut rest = &bytes[..];
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let (header, tail) = tail.split_at(i32::from_le_bytes(*length) as usize);
            let header: Value = serde_json::from_slice(header).unwrap();
            let body = if header["event"] == "data" { 0 } else { header["size"].as_u64().unwrap_or(0) as usize };
            rest = &tail[body..];
            frames.push(header);
        }
        frames
    }

    /// The one frame queued since.
    fn frame(&mut self) -> Value {
        let mut frames = self.frames();
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.remove(0)
    }

    fn pump(&mut self) {
        self.files.pump(&mut self.out);
    }

    fn handle(&mut self) -> FileHandle {
        self.handles += 1;
        FileHandle(self.handles)
    }

    /// Opens an upload.
    fn put(&mut self, id: u64, length: u64) -> FileHandle {
        self.request(id, put("f", length));
        let (ticket, _) = self.op();
        let file = self.handle();
        self.reply(ticket, Ok(DiskDone::Created { file, offset: 0 }));
        assert_eq!(self.frame(), json!({"re":"put","id":id,"ok":true,"offset":0}));
        file
    }

    /// Opens a download; its answer is not sent yet.
    fn get(&mut self, id: u64, total: u64, offset: Option<u64>, length: Option<u64>) -> FileHandle {
        self.request(id, Request::Get(Get { path: "f".into(), offset, length }));
        let (ticket, op) = self.op();
        assert!(matches!(op, DiskOp::Open { .. }));
        let file = self.handle();
        self.reply(ticket, Ok(DiskDone::Opened { file, total, mtime_ms: 5, mode: 0o644 }));
        file
    }

    fn data(&mut self, id: u64, bytes: &[u8]) {
        self.files.data(id, bytes, &mut self.out);
        self.files.data_end(id, &mut self.out);
    }

    fn end(&mut self, id: u64) {
        self.request(id, Request::End(End { blake3: None }));
    }
}

fn put(path: &str, length: u64) -> Request {
    Request::Put(Box::new(Put {
        path: path.into(),
        length,
        exists: IfExists::Fail,
        parents: false,
        resume: None,
        mtime_ms: None,
        mode: None,
        blake3: None,
    }))
}

fn written(op: DiskOp) -> Vec<u8> {
    match op {
        DiskOp::Write { bytes, .. } => bytes,
        other => panic!("{other:?}"),
    }
}

fn full() -> Refusal {
    Refusal::new(ErrorCode::NoSpace, "full")
}

fn error(frame: &Value) -> (&str, u64, &str) {
    assert_eq!(frame["ok"], false, "{frame}");
    (frame["re"].as_str().unwrap(), frame["id"].as_u64().unwrap(), frame["error"].as_str().unwrap())
}

#[test]
fn hashes_run_beside_other_requests() {
    let mut bench = Bench::default();
    bench.request(1, Request::Hash(FilePath { path: "f".into() }));
    let (hash, _) = bench.op();
    assert!(bench.files.is_live(1) && !bench.files.is_waiting());
    bench.request(2, Request::Stat(FilePath { path: "".into() }));
    let (stat, _) = bench.op();
    assert!(bench.files.is_waiting());
    bench.reply(hash, Ok(DiskDone::Hashed { blake3: [1; 32], length: 4 }));
    bench.reply(stat, Ok(DiskDone::Status(Status { kind: Kind::Dir, length: 0, mtime_ms: -1, mode: 0o755 })));
    let expected = [
        json!({"re":"hash","id":1,"ok":true,"blake3":"01".repeat(32),"length":4}),
        json!({"re":"stat","id":2,"ok":true,"kind":"dir","length":0,"mtime_ms":-1,"mode":0o755}),
    ];
    assert_eq!(bench.frames(), expected);

    bench.request(3, Request::Hash(FilePath { path: "f".into() }));
    let (hash, _) = bench.op();
    bench.request(3, Request::Cancel);
    let frames = bench.frames();
    assert_eq!(frames[0], json!({"re":"cancel","id":3,"ok":true}));
    assert_eq!(error(&frames[1]), ("hash", 3, "cancelled"));
    assert!(matches!(bench.op().1, DiskOp::StopHash { ticket } if ticket == hash));
    bench.reply(hash, Ok(DiskDone::Hashed { blake3: [1; 32], length: 4 }));
    assert!(bench.frames().is_empty() && bench.files.is_idle());
}

#[test]
fn a_page_of_a_directory_travels_in_the_body() {
    let mut bench = Bench::default();
    let list = List { path: "d".into(), after: None, limit: Some(5_000) };
    bench.request(1, Request::List(list));
    let (ticket, op) = bench.op();
    assert!(matches!(op, DiskOp::List { limit: 1_000, .. }));
    let entries = bytes::Bytes::from(vec![b' '; MAX_BODY]);
    bench.reply(ticket, Ok(DiskDone::Listed { entries, more: true, skipped: 2 }));
    assert_eq!(bench.frame(), json!({"re":"list","id":1,"ok":true,"size":MAX_BODY,"more":true,"skipped":2}));
}

#[test]
fn bad_paths_and_fields_never_reach_the_disk() {
    let path = || FilePath { path: "../x".into() };
    let with = |change: fn(&mut Put)| {
        let Request::Put(mut request) = put("f", 1) else { unreachable!() };
        change(&mut request);
        Request::Put(request)
    };
    for (request, code) in [
        (Request::Get(Get { path: "".into(), offset: None, length: None }), "invalid_path"),
        (Request::Stat(path()), "invalid_path"),
        (Request::Hash(path()), "invalid_path"),
        (Request::Remove(path()), "invalid_path"),
        (Request::Remove(FilePath { path: "".into() }), "invalid_path"),
        (Request::List(List { path: "/".into(), after: None, limit: None }), "invalid_path"),
        (with(|put| put.blake3 = Some("12".into())), "bad_request"),
        (with(|put| put.blake3 = Some("zz".repeat(32))), "bad_request"),
        (with(|put| put.resume = Some("".into())), "bad_request"),
        (with(|put| put.resume = Some("k".repeat(257))), "bad_request"),
        (with(|put| put.length = u64::MAX), "too_large"),
    ] {
        let mut bench = Bench::default();
        let cmd = request.command();
        bench.request(1, request);
        assert_eq!(error(&bench.frame()), (cmd, 1, code));
        assert!(bench.ops().is_empty() && !bench.files.is_waiting());
    }
    let mut bench = Bench::default();
    bench.request(1, with(|put| put.mode = Some(0o106_755)));
    assert!(matches!(bench.op().1, DiskOp::Create(create) if create.mode == Some(0o755)), "no set-user-id bit");
}

#[test]
fn everything_that_can_pile_up_is_limited() {
    let mut bench = Bench::default();
    for id in 0..MAX_UPLOADS as u64 {
        bench.put(id, 1);
    }
    bench.request(1_000, put("f", 1));
    assert_eq!(error(&bench.frame()).2, "limit");
    for id in 0..MAX_HASHES as u64 {
        bench.request(2_000 + id, Request::Hash(FilePath { path: "f".into() }));
    }
    bench.request(3_000, Request::Hash(FilePath { path: "f".into() }));
    assert_eq!(error(&bench.frame()).2, "limit");
    for id in 0..MAX_DOWNLOADS as u64 {
        bench.ops();
        bench.get(4_000 + id, 1, None, None);
    }
    bench.request(5_000, Request::Get(Get { path: "f".into(), offset: None, length: None }));
    assert_eq!(error(bench.frames().last().unwrap()).2, "limit");
    // Of failed uploads the oldest are forgotten.
    for id in 10_000..12_000 {
        bench.request(id, put("..", 1));
    }
    bench.frames();
    bench.end(10_000);
    bench.end(11_999);
    let codes: Vec<_> = bench.frames().iter().map(|frame| error(frame).2.to_owned()).collect();
    assert_eq!(codes, ["not_found", "invalid_path"]);
}

#[test]
fn the_end_of_input_keeps_parts_and_lets_downloads_and_hashes_go_on() {
    let mut bench = Bench::default();
    let file = bench.put(1, 10);
    bench.get(2, 10, None, None);
    bench.request(3, Request::Hash(FilePath { path: "f".into() }));
    bench.data(1, b"abc");
    bench.ops();
    bench.files.end_of_input(&mut bench.out);
    assert!(matches!(bench.op().1, DiskOp::Release { file: released, keep: true } if released == file));
    assert!(bench.files.is_live(2) && bench.files.is_live(3) && !bench.files.is_live(1) && !bench.files.is_idle());
}

#[test]
fn after_abandoning_nothing_is_said_and_what_comes_open_is_let_go() {
    let mut bench = Bench::default();
    let upload = bench.put(1, 10);
    let download = bench.get(2, 10, None, None);
    bench.request(3, Request::Hash(FilePath { path: "f".into() }));
    let (hash, _) = bench.op();
    bench.request(4, put("g", 5));
    let (create, _) = bench.op();
    bench.frames();
    bench.files.abandon(&mut bench.out);
    let ops = bench.ops();
    assert!(matches!(ops[0].1, DiskOp::Release { file, keep: true } if file == upload), "{ops:?}");
    assert!(matches!(ops[1].1, DiskOp::Close { file } if file == download));
    assert!(matches!(ops[2].1, DiskOp::StopHash { ticket } if ticket == hash));
    bench.reply(create, Ok(DiskDone::Created { file: FileHandle(9), offset: 0 }));
    assert!(matches!(bench.op().1, DiskOp::Release { file: FileHandle(9), keep: true }));
    bench.pump();
    assert!(bench.frames().is_empty() && bench.files.is_idle());
}
