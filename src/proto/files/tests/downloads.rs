//! Downloads: their ranges, their turns and their ends.

use super::*;

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
