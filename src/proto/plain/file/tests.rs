//! Plain files on a disk of the test's own, which holds names and bytes.

use super::transfer::{BATCH, MAX_WAITING};
use super::*;
use crate::proto::Effect;
use crate::proto::files::{DiskDone, DiskOp, DiskRequest, FileHandle};
use crate::wire::MAX_DATA;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::request::IfExists;
use std::collections::{BTreeMap, HashMap};
use std::io::IoSlice;

/// A client, and a disk.
#[derive(Default)]
struct Bench {
    file: PlainFile,
    out: Outbox,
    published: BTreeMap<String, Vec<u8>>,
    uploads: HashMap<FileHandle, (String, Vec<u8>)>,
    open: HashMap<FileHandle, Vec<u8>>,
    handles: u64,
    /// Whether writes fail, and whether the disk answers at all.
    full: bool,
    stalled: bool,
    sent: Vec<u8>,
}

impl Bench {
    fn input(&mut self, input: Input<'_>) {
        self.file.handle_input(input, &mut self.out);
        self.run();
    }

    /// Does what is asked for, and sends what is queued, until nothing is left.
    fn run(&mut self) {
        while !self.stalled {
            if let Some(effect) = self.out.effects.pop_front() {
                let Effect::Disk(DiskRequest { ticket, op }) = effect else { panic!("{effect:?}") };
                let result = self.disk(op);
                self.file.handle_input(Input::Disk(DiskReply { ticket, result }), &mut self.out);
            } else if !self.out.queue.is_empty() {
                self.send();
                if self.file.wants_drained() {
                    self.file.handle_input(Input::Drained, &mut self.out);
                }
            } else {
                return;
            }
        }
    }

    fn send(&mut self) {
        assert!(self.out.queue.len() < HIGH_WATER + MAX_DATA);
        let queue = &mut self.out.queue;
        if let Some((file, offset, length)) = queue.front_file() {
            let content = &self.open[&file];
            let end = (offset as usize + length).min(content.len());
            self.sent.extend_from_slice(&content[(offset as usize).min(end)..end]);
            queue.advance(end.saturating_sub(offset as usize));
            if queue.front_file().is_some_and(|(front, ..)| front == file) && end == content.len() {
                queue.replace_front_file_by_zeros();
                self.file.handle_input(Input::FileShrank(file), &mut self.out);
            }
            return;
        }
        let mut slices = [IoSlice::new(b""); 16];
        let (n, _) = queue.slices(&mut slices);
        let bytes: Vec<u8> = slices[..n].iter().flat_map(|slice| slice.to_vec()).collect();
        queue.advance(bytes.len());
        self.sent.extend(bytes);
    }

    fn disk(&mut self, op: DiskOp) -> Result<DiskDone, Refusal> {
        let refusal = |code| Err(Refusal::new(code, "no"));
        self.handles += 1;
        let new = FileHandle(self.handles);
        match op {
            DiskOp::Create(create) if create.path.starts_with("no/") => refusal(ErrorCode::NotFound),
            DiskOp::Create(create) => {
                assert_eq!((create.exists, create.parents, create.key), (IfExists::Replace, false, None));
                self.uploads.insert(new, (create.path, Vec::new()));
                Ok(DiskDone::Created { file: new, offset: 0 })
            }
            DiskOp::Write { .. } if self.full => refusal(ErrorCode::NoSpace),
            DiskOp::Write { file, bytes } => {
                assert!(!bytes.is_empty() && bytes.len() <= BATCH);
                self.uploads.get_mut(&file).unwrap().1.extend_from_slice(&bytes);
                Ok(DiskDone::Written { buffer: bytes })
            }
            DiskOp::Finish { file, blake3: None } => {
                let (name, content) = self.uploads.remove(&file).unwrap();
                self.published.insert(name, content);
                Ok(DiskDone::Finished { blake3: [0; 32] })
            }
            DiskOp::Release { file, keep: false } => {
                assert!(self.uploads.remove(&file).is_some());
                Ok(DiskDone::Done)
            }
            DiskOp::Open { path } => match self.published.get(&path) {
                Some(content) => {
                    self.open.insert(new, content.clone());
                    Ok(DiskDone::Opened { file: new, total: content.len() as u64, mtime_ms: 0, mode: 0 })
                }
                None => refusal(ErrorCode::NotFound),
            },
            DiskOp::Close { file } => {
                assert!(self.open.remove(&file).is_some());
                Ok(DiskDone::Done)
            }
            other => panic!("{other:?}"),
        }
    }

    fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    fn assert_nothing_is_open(&self) {
        assert!(self.open.is_empty() && self.uploads.is_empty());
    }
}

fn framed(header: &str) -> Vec<u8> {
    [&(header.len() as i32).to_le_bytes()[..], header.as_bytes()].concat()
}

fn put(name: &str, content: &[u8]) -> Vec<u8> {
    let header = format!(r#"{{"cmd":"put","filename":"{name}","filesize":{}}}"#, content.len());
    [framed(&header), content.to_vec()].concat()
}

fn get(name: &str) -> Vec<u8> {
    framed(&format!(r#"{{"filename":"{name}","cmd":"get"}}"#))
}

fn found(content: &[u8]) -> Vec<u8> {
    [framed(&format!(r#"{{"filesize":{},"isfile":true}}"#, content.len())), content.to_vec()].concat()
}

fn absent() -> Vec<u8> {
    framed(r#"{"isfile":false}"#)
}

#[test]
fn requests_are_carried_out_in_order_however_the_bytes_come() {
    let requests = [
        put("a", b"first"),
        get("a"),
        put("a", b"again"),
        put("empty", b""),
        get("a"),
        get("empty"),
        put("../up", b"thrown away"),
        put("no/dir", b"thrown away too"),
        get("none"),
        get("../up"),
    ]
    .concat();
    let answers = [found(b"first"), found(b"again"), found(b""), absent(), absent()].concat();
    let splits = (0..=requests.len()).map(|cut| vec![&requests[..cut], &requests[cut..]]);
    for pieces in splits.chain([requests.chunks(1).collect()]) {
        let mut bench = Bench::default();
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            assert!(bench.file.wants(&bench.out).socket_read);
            bench.input(Input::Bytes(piece));
        }
        assert!(bench.sent() == answers && !bench.file.is_finished(&bench.out));
        bench.input(Input::Eof);
        assert!(bench.file.is_finished(&bench.out) && !bench.file.has_failed());
        assert_eq!(bench.published.keys().collect::<Vec<_>>(), ["a", "empty"]);
        bench.assert_nothing_is_open();
    }
}

#[test]
fn while_the_disk_is_busy_nothing_is_read_and_nothing_lost() {
    let mut bench = Bench { stalled: true, ..Bench::default() };
    bench.input(Input::Bytes(&[put("a", b"one"), get("a")].concat()));
    assert!(!bench.file.wants(&bench.out).socket_read);
    bench.input(Input::Eof);
    assert!(!bench.file.is_finished(&bench.out));
    bench.stalled = false;
    bench.run();
    assert!(bench.sent() == found(b"one") && bench.file.is_finished(&bench.out));
    bench.assert_nothing_is_open();
}

#[test]
fn long_files_go_in_batches_and_what_waits_is_bounded() {
    let content: Vec<u8> = (0..9_000_000u32).map(|n| (n % 251) as u8).collect();
    let bytes = [put("a", &content), get("a")].concat();
    let mut bench = Bench::default();
    let (begin, rest) = bytes.split_at(200);
    bench.input(Input::Bytes(begin));
    bench.stalled = true;
    let mut waiting = 0;
    for piece in rest.chunks(2_048) {
        if !bench.file.wants(&bench.out).socket_read {
            assert!((MAX_WAITING..MAX_WAITING + 2_048).contains(&waiting), "{waiting}");
            bench.stalled = false;
            bench.run();
            bench.stalled = true;
            waiting = 0;
        }
        bench.input(Input::Bytes(piece));
        waiting += piece.len();
    }
    bench.stalled = false;
    bench.run();
    assert!(bench.sent() == found(&content));
    bench.assert_nothing_is_open();
}

#[test]
fn an_upload_that_is_not_complete_is_never_published() {
    let whole = put("a", b"content");
    for cut in 0..whole.len() {
        for last in [Input::Eof, Input::Gone, Input::Shutdown, Input::SlowConsumer] {
            let mut bench = Bench::default();
            if cut > 0 {
                bench.input(Input::Bytes(&whole[..cut]));
            }
            bench.input(last);
            assert!(bench.file.is_finished(&bench.out) && bench.published.is_empty());
            bench.assert_nothing_is_open();
        }
    }
}

#[test]
fn after_a_write_that_failed_the_rest_is_thrown_away() {
    let mut bench = Bench { full: true, ..Bench::default() };
    let content = vec![1; 3 * BATCH];
    let bytes = [put("a", &content), put("a", &content)].concat();
    for piece in bytes.chunks(50_000) {
        bench.input(Input::Bytes(piece));
    }
    bench.full = false;
    bench.input(Input::Bytes(&[put("b", b"fits"), get("a"), get("b")].concat()));
    assert!(bench.sent() == [absent(), found(b"fits")].concat());
    bench.assert_nothing_is_open();
}

#[test]
fn late_answers_for_an_upload_that_failed_do_not_count_for_the_next() {
    let failure = |ticket| DiskReply { ticket, result: Err(Refusal::new(ErrorCode::NoSpace, "full")) };
    let mut bench = Bench::default();
    let first = put("a", &vec![1; 3 * BATCH]);
    bench.input(Input::Bytes(&first[..50]));
    bench.stalled = true;
    bench.input(Input::Bytes(&first[50..first.len() - 1]));
    let mut writes = Vec::new();
    while let Some(Effect::Disk(DiskRequest { ticket, op: DiskOp::Write { .. } })) = bench.out.effects.pop_front() {
        writes.push(ticket);
    }
    assert!(writes.len() > 1);
    let mut late = writes.split_off(1);
    bench.stalled = false;
    bench.input(Input::Disk(failure(writes[0])));
    bench.input(Input::Bytes(&first[first.len() - 1..]));
    let second = put("b", b"content");
    bench.input(Input::Bytes(&second[..second.len() - 3]));
    late.drain(..).for_each(|ticket| bench.input(Input::Disk(failure(ticket))));
    bench.input(Input::Bytes(&second[second.len() - 3..]));
    assert_eq!(bench.published["b"], b"content");
    assert_eq!(bench.published.len(), 1);
    bench.assert_nothing_is_open();
}

#[test]
fn what_cannot_be_understood_ends_the_connection_after_the_answers() {
    for bad in [
        0i32.to_le_bytes().to_vec(),
        (-1i32).to_le_bytes().to_vec(),
        (MAX_HEADER as i32 + 1).to_le_bytes().to_vec(),
        framed("{"),
        framed(r#"["put","a",3]"#),
        framed("{}"),
        framed(r#"{"cmd":"del","filename":"a"}"#),
        framed(r#"{"cmd":1,"filename":"a"}"#),
        framed(r#"{"cmd":"get"}"#),
        framed(r#"{"cmd":"get","filename":3}"#),
        framed(r#"{"cmd":"get","cmd":"get","filename":"a"}"#),
        framed(r#"{"cmd":"put","filename":"a"}"#),
        framed(r#"{"cmd":"put","filename":"a","filesize":-1}"#),
        framed(r#"{"cmd":"put","filename":"a","filesize":1.0}"#),
        framed(r#"{"cmd":"put","filename":"a","filesize":"3"}"#),
        framed(r#"{"cmd":"put","filename":"a","filesize":true}"#),
        framed(r#"{"cmd":"put","filename":"a","filesize":9223372036854775808}"#),
    ] {
        let mut bench = Bench::default();
        bench.input(Input::Bytes(&[get("none"), bad.clone(), get("none")].concat()));
        assert!(bench.file.has_failed(), "{}", String::from_utf8_lossy(&bad));
        assert!(bench.sent() == absent() && bench.file.is_finished(&bench.out));
        assert!(!bench.file.wants(&bench.out).socket_read);
        bench.input(Input::Bytes(&get("none")));
        bench.input(Input::Gone);
        assert_eq!(bench.sent(), b"");
        bench.assert_nothing_is_open();
    }
}

#[test]
fn a_file_that_shrinks_ends_the_connection_and_no_zeros_are_sent_for_it() {
    let content = vec![7; MAX_DATA + 1_000];
    let mut bench = Bench::default();
    bench.published.insert("a".into(), content.clone());
    bench.stalled = true;
    bench.input(Input::Bytes(&[get("a"), get("a")].concat()));
    let Some(Effect::Disk(DiskRequest { ticket, op })) = bench.out.effects.pop_front() else { panic!() };
    let result = bench.disk(op);
    bench.file.handle_input(Input::Disk(DiskReply { ticket, result }), &mut bench.out);
    bench.open.values_mut().for_each(|content| content.truncate(MAX_DATA + 10));
    bench.stalled = false;
    bench.run();
    assert!(bench.file.has_failed() && bench.file.is_finished(&bench.out));
    let sent = bench.sent();
    assert!(sent == found(&content)[..sent.len()] && sent.len() == found(&content).len() - 990);
    bench.input(Input::Gone);
    bench.assert_nothing_is_open();
}

#[test]
fn a_client_that_goes_while_the_disk_opens_leaves_nothing_open() {
    for request in [put("b", b"x"), get("a")] {
        let mut bench = Bench { stalled: true, ..Bench::default() };
        bench.published.insert("a".into(), b"x".to_vec());
        bench.input(Input::Bytes(&request));
        bench.input(Input::Kicked);
        bench.stalled = false;
        bench.run();
        assert!(bench.file.is_finished(&bench.out) && bench.sent().is_empty());
        bench.assert_nothing_is_open();
    }
}
