//! The file service on a disk that answers when the test says so.

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
fn an_upload_goes_to_the_disk_in_order_and_in_batches() {
    let mut bench = Bench::default();
    let file = bench.put(1, 700_000);
    let content: Vec<u8> = (0..700_000u32).map(|n| n as u8).collect();
    bench.data(1, &content[..100]);
    let (first, op) = bench.op();
    let mut got = written(op);
    assert_eq!(got.len(), 100, "the first bytes do not wait");
    for piece in content[100..650_000].chunks(10_000) {
        bench.data(1, piece);
    }
    let ops = bench.ops();
    assert_eq!(ops.len(), 2, "more is gathered while the disk is busy");
    let tickets: Vec<_> = ops.iter().map(|(ticket, _)| *ticket).collect();
    ops.into_iter().for_each(|(_, op)| got.extend(written(op)));
    for ticket in [vec![first], tickets].concat() {
        bench.reply(ticket, Ok(DiskDone::Written { buffer: Vec::new() }));
    }
    let (last, op) = bench.op();
    got.extend(written(op));
    bench.data(1, &content[650_000..]);
    bench.reply(last, Ok(DiskDone::Written { buffer: Vec::new() }));
    bench.end(1);
    let mut ops = bench.ops();
    let (ticket, op) = ops.pop().unwrap();
    assert!(matches!(op, DiskOp::Finish { file: finished, blake3: None } if finished == file));
    ops.into_iter().for_each(|(_, op)| got.extend(written(op)));
    assert!(got == content);
    assert!(bench.files.is_waiting() && bench.files.is_live(1) && bench.frames().is_empty());
    bench.reply(ticket, Ok(DiskDone::Finished { blake3: [0xab; 32] }));
    let expected = json!({"re":"end","id":1,"ok":true,"path":"f","length":700_000,"blake3":"ab".repeat(32)});
    assert_eq!(bench.frame(), expected);
    assert!(!bench.files.is_live(1) && bench.files.is_idle());
}

#[test]
fn what_waits_for_the_disk_is_bounded() {
    let mut bench = Bench::default();
    bench.put(1, 1 << 40);
    while bench.files.wants_input() {
        bench.data(1, &[1; 50_000]);
    }
    let ops = bench.ops();
    let waiting: usize = ops
        .into_iter()
        .map(|(ticket, op)| {
            let bytes = written(op);
            let length = bytes.len();
            bench.reply(ticket, Ok(DiskDone::Written { buffer: bytes }));
            length
        })
        .sum();
    assert!((3 << 20..5 << 20).contains(&waiting), "{waiting}");
    assert!(bench.files.wants_input());
}

#[test]
fn a_resumed_upload_takes_only_what_is_missing() {
    let mut bench = Bench::default();
    bench.request(1, put("f", 10));
    let (ticket, _) = bench.op();
    bench.reply(ticket, Ok(DiskDone::Created { file: FileHandle(1), offset: 8 }));
    assert_eq!(bench.frame()["offset"], 8);
    bench.data(1, b"ab");
    bench.op();
    bench.data(1, b"c");
    assert_eq!(error(&bench.frame()), ("data", 1, "too_large"));
}

#[test]
fn a_file_that_is_there_already_takes_neither_data_nor_end() {
    let mut bench = Bench::default();
    bench.request(1, put("f", 10));
    let (ticket, _) = bench.op();
    bench.reply(ticket, Ok(DiskDone::Already));
    assert_eq!(bench.frame(), json!({"re":"put","id":1,"ok":true,"offset":10,"already":true}));
    assert!(!bench.files.is_live(1));
    bench.data(1, b"x");
    assert_eq!(error(&bench.frame()), ("data", 1, "not_found"));
}

#[test]
fn missing_bytes_are_a_conflict_and_keep_the_part() {
    let mut bench = Bench::default();
    bench.put(1, 10);
    bench.data(1, b"abc");
    bench.op();
    bench.end(1);
    let (ticket, op) = bench.op();
    assert!(matches!(op, DiskOp::Release { keep: true, .. }));
    bench.reply(ticket, Ok(DiskDone::Done));
    assert_eq!(error(&bench.frame()), ("end", 1, "conflict"));
    assert!(!bench.files.is_live(1));
}

#[test]
fn too_many_bytes_are_answered_once_and_then_dropped() {
    let mut bench = Bench::default();
    bench.put(1, 4);
    bench.files.data(1, b"abc", &mut bench.out);
    bench.files.data(1, b"de", &mut bench.out);
    bench.files.data(1, b"fg", &mut bench.out);
    assert!(bench.frames().is_empty(), "the answer comes at the end of the frame");
    bench.files.data_end(1, &mut bench.out);
    assert_eq!(error(&bench.frame()), ("data", 1, "too_large"));
    assert!(matches!(bench.op().1, DiskOp::Release { keep: false, .. }));
    bench.data(1, b"more");
    assert!(bench.frames().is_empty() && bench.ops().is_empty());
    bench.end(1);
    assert_eq!(error(&bench.frame()), ("end", 1, "too_large"));
    bench.end(1);
    assert_eq!(error(&bench.frame()), ("end", 1, "not_found"));
}

#[test]
fn a_failed_put_lets_its_data_pass_and_its_end_repeats_why() {
    for by_disk in [true, false] {
        let mut bench = Bench::default();
        bench.request(1, put(if by_disk { "f" } else { "../f" }, 4));
        let code = if by_disk { "no_space" } else { "invalid_path" };
        if by_disk {
            let (ticket, _) = bench.op();
            bench.reply(ticket, Err(full()));
        }
        assert_eq!(error(&bench.frame()), ("put", 1, code));
        bench.data(1, b"abcd");
        assert!(bench.frames().is_empty() && !bench.files.is_live(1));
        bench.end(1);
        assert_eq!(error(&bench.frame()), ("end", 1, code));
    }
}

#[test]
fn a_put_that_was_refused_before_is_a_failed_one() {
    let mut bench = Bench::default();
    bench.files.put_failed(1, Refusal::new(ErrorCode::BadRequest, "no length"));
    bench.data(1, b"abcd");
    assert!(bench.frames().is_empty());
    bench.end(1);
    assert_eq!(error(&bench.frame()), ("end", 1, "bad_request"));
    bench.put(1, 4);
    bench.files.put_failed(1, Refusal::new(ErrorCode::BadRequest, "no length"));
    bench.data(1, b"abcd");
    assert!(matches!(bench.op().1, DiskOp::Write { .. }), "one that is under way stays so");
}

#[test]
fn cancel_and_a_new_put_free_the_id_of_a_failed_one() {
    let mut bench = Bench::default();
    bench.request(1, put("..", 4));
    bench.frames();
    bench.request(1, Request::Cancel);
    assert_eq!(bench.frame(), json!({"re":"cancel","id":1,"ok":true}));
    bench.request(1, Request::Cancel);
    assert_eq!(error(&bench.frame()), ("cancel", 1, "not_found"));
    bench.request(1, put("..", 4));
    bench.frames();
    bench.put(1, 4);
    bench.data(1, b"abcd");
    assert!(matches!(bench.op().1, DiskOp::Write { .. }));
}

#[test]
fn a_write_that_fails_is_answered_once() {
    let mut bench = Bench::default();
    bench.put(1, 1 << 20);
    bench.data(1, &[1; 1 << 20]);
    let ops = bench.ops();
    assert_eq!(ops.len(), 4);
    for (ticket, _) in &ops[..2] {
        bench.reply(*ticket, Err(full()));
    }
    assert_eq!(error(&bench.frame()), ("data", 1, "no_space"));
    assert!(matches!(bench.op().1, DiskOp::Release { .. }));
    // A new upload with the id has nothing to do with the old one's writes.
    bench.put(1, 4);
    bench.reply(ops[2].0, Err(full()));
    assert!(bench.frames().is_empty() && bench.files.is_live(1));
}

#[test]
fn a_write_that_fails_after_the_end_was_asked_for_is_answered_before_it() {
    let mut bench = Bench::default();
    bench.put(1, 1 << 20);
    bench.data(1, &[1; 1 << 20]);
    bench.end(1);
    let mut ops = bench.ops();
    let (finish, _) = ops.pop().unwrap();
    for (ticket, _) in ops {
        bench.reply(ticket, Err(full()));
    }
    bench.reply(finish, Err(full()));
    let frames = bench.frames();
    assert_eq!(frames.iter().map(error).collect::<Vec<_>>(), [("data", 1, "no_space"), ("end", 1, "no_space")]);
    assert!(!bench.files.is_live(1) && bench.files.wants_input());
}

#[test]
fn cancelling_an_upload_waits_until_nothing_of_it_is_left() {
    let mut bench = Bench::default();
    bench.put(1, 10);
    bench.data(1, b"abc");
    bench.op();
    bench.request(1, Request::Cancel);
    let (ticket, op) = bench.op();
    assert!(matches!(op, DiskOp::Release { keep: false, .. }) && bench.files.is_waiting());
    bench.reply(ticket, Ok(DiskDone::Done));
    assert_eq!(bench.frame(), json!({"re":"cancel","id":1,"ok":true}));
}

#[test]
fn a_download_is_answered_sent_checked_and_ended() {
    let mut bench = Bench::default();
    let length = MAX_DATA as u64 * 2 + 5;
    let file = bench.get(1, length, None, None);
    let mut frames = Vec::new();
    while bench.out.effects.is_empty() {
        assert!(bench.out.queue.len() <= 2 * MAX_DATA, "no more than about two stretches are queued");
        frames.extend(bench.frames());
        bench.pump();
    }
    assert_eq!(
        frames[0],
        json!({"re":"get","id":1,"ok":true,"length":length,"total":length,"mtime_ms":5,"mode":0o644})
    );
    let sizes: Vec<_> = frames[1..].iter().map(|frame| frame["size"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [MAX_DATA as u64, MAX_DATA as u64, 5]);
    let (check, op) = bench.op();
    assert!(matches!(op, DiskOp::Check { file: checked } if checked == file));
    assert!(bench.files.is_live(1) && !bench.files.is_idle());
    bench.reply(check, Ok(DiskDone::Done));
    assert_eq!(bench.frame(), json!({"event":"end","id":1,"ok":true,"length":length}));
    assert!(matches!(bench.op().1, DiskOp::Close { file: closed } if closed == file));
    assert!(!bench.files.is_live(1) && bench.files.is_idle());
}

#[test]
fn ranges_end_where_the_file_does() {
    for (offset, length, expected) in [
        (None, Some(3), 3),
        (Some(4), None, 6),
        (Some(4), Some(100), 6),
        (Some(10), None, 0),
        (Some(11), Some(1), 0),
        (Some(u64::MAX), Some(u64::MAX), 0),
        (Some(0), Some(0), 0),
    ] {
        let mut bench = Bench::default();
        let file = bench.get(1, 10, offset, length);
        if expected > 0 {
            let mut begin = None;
            while let Some((at, n)) = bench.out.queue.front_file().map(|(_, at, n)| (at, n)).or_else(|| {
                let mut slices = [IoSlice::new(b""); 1];
                bench.out.queue.slices(&mut slices);
                let n = slices[0].len();
                bench.out.queue.advance(n);
                (n > 0).then_some((u64::MAX, 0))
            }) {
                if at != u64::MAX {
                    begin = Some(at);
                    assert!(bench.out.queue.has_file(file));
                    bench.out.queue.advance(n);
                }
            }
            assert_eq!(begin, Some(offset.unwrap_or(0)));
        } else {
            assert_eq!(bench.frame()["length"], expected);
        }
        bench.pump();
        let (check, _) = bench.op();
        bench.reply(check, Ok(DiskDone::Done));
        assert_eq!(bench.frame(), json!({"event":"end","id":1,"ok":true,"length":expected}));
    }
}

#[test]
fn a_download_is_not_checked_before_its_last_byte_is_sent() {
    let mut bench = Bench::default();
    bench.get(1, 10, None, None);
    for _ in 0..3 {
        bench.pump();
        assert!(bench.ops().is_empty());
    }
    bench.frames();
    bench.pump();
    assert!(matches!(bench.op().1, DiskOp::Check { .. }));
    bench.pump();
    assert!(bench.ops().is_empty(), "it is checked once");
}

#[test]
fn downloads_take_turns() {
    let mut bench = Bench::default();
    for id in 1..=3 {
        bench.get(id, 1 << 30, None, None);
    }
    let mut counts = [0; 4];
    for _ in 0..30 {
        for frame in bench.frames() {
            if frame["event"] == "data" {
                counts[frame["id"].as_u64().unwrap() as usize] += 1;
            }
        }
        bench.pump();
    }
    assert!(counts[1..].iter().all(|count| (8..=12).contains(count)), "{counts:?}");
}

#[test]
fn a_file_that_changed_or_shrank_ends_its_download_so() {
    let mut bench = Bench::default();
    bench.get(1, 10, None, None);
    bench.frames();
    bench.pump();
    let (check, _) = bench.op();
    bench.reply(check, Err(Refusal::new(ErrorCode::Changed, "it grew")));
    let expected = json!({"event":"end","id":1,"ok":false,"error":"changed","message":"it grew","length":10});
    assert_eq!(bench.frame(), expected);
    bench.ops();

    let file = bench.get(2, 1 << 30, None, None);
    bench.files.file_shrank(file);
    bench.out.queue.clear();
    bench.ops();
    bench.pump();
    let end = bench.frame();
    assert_eq!((&end["event"], &end["error"], &end["length"]), (&json!("end"), &json!("changed"), &json!(MAX_DATA)));
    assert!(matches!(bench.op().1, DiskOp::Close { .. }), "nothing is left to check");
}

#[test]
fn a_cancelled_download_ends_after_the_answer_and_closes_when_it_is_sent() {
    let mut bench = Bench::default();
    bench.get(1, 1 << 30, None, None);
    bench.request(1, Request::Cancel);
    assert!(!bench.files.is_live(1));
    assert!(bench.ops().is_empty(), "a stretch of the file is still queued");
    let frames = bench.frames();
    assert_eq!(frames[2], json!({"re":"cancel","id":1,"ok":true}));
    assert_eq!((&frames[3]["event"], &frames[3]["error"]), (&json!("end"), &json!("cancelled")));
    assert_eq!(frames[3]["length"], MAX_DATA);
    bench.pump();
    assert!(matches!(bench.op().1, DiskOp::Close { .. }));
    assert!(bench.files.is_idle());
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
