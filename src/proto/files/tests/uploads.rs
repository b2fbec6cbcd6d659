//! Uploads: their way to the disk, and what becomes of those that fail.

use super::*;
use crate::proto::files::upload::MAX_WAITING;

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
    // What is still gathered is not at the disk.
    assert!((MAX_WAITING / 2..MAX_WAITING + 50_000).contains(&waiting), "{waiting}");
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
