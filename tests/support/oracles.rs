//! What must hold whatever the bytes are: one function for each part that
//! meets a stranger's bytes. The property tests and the fuzzers (`fuzz/`) call
//! the same ones; each panics where its promise is broken.

use super::frames::raw_frame;
use super::world::{TOKEN, World, config};
use reactord::client::text;
use reactord::proto::exec::ChildEvent;
use reactord::proto::files::{DiskDone, DiskReply, FileHandle, Ticket};
use reactord::proto::jobs::JobId;
use reactord::proto::outbox::HIGH_WATER;
use reactord::proto::{ConnId, Input, paths};
use reactord::wire::reply::{FatalError, Refused};
use reactord::wire::{ErrorCode, FrameDecoder, FrameError, Limits, MAX_ID, Piece, RequestHeader, frame};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The most that one connection may have queued in these runs: what it may
/// queue for itself, a room's kept messages and one body.
const MOST_QUEUED: usize = HIGH_WATER + (6 << 20);

type Decoded = (Vec<(Vec<u8>, Vec<u8>)>, Option<FrameError>);

/// A body's length, made of its header so that both decoders agree on it.
fn body_size(header: &[u8], limits: Limits) -> usize {
    (usize::from(header[0]) * 3).min(limits.body)
}

/// What the stream means, by a decoder that sees all of it at once.
fn decode_whole(mut rest: &[u8], limits: Limits) -> Decoded {
    let mut frames = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = i32::from_le_bytes(*length);
        if length < 1 || length as usize > limits.header {
            return (frames, Some(FrameError::HeaderLength { length, max: limits.header }));
        }
        let Some((header, behind)) = behind.split_at_checked(length as usize) else { break };
        let size = body_size(header, limits);
        let body = &behind[..size.min(behind.len())];
        frames.push((header.to_vec(), body.to_vec()));
        rest = &behind[body.len()..];
    }
    (frames, None)
}

/// The decoder gives the same frames however the bytes are cut. The first two
/// bytes choose the caps and the cuts, the rest is the stream.
pub fn decoder(data: &[u8]) {
    let [caps, cuts, stream @ ..] = data else { return };
    let limits = if caps & 1 == 0 { Limits::FULL } else { Limits::UNAUTHENTICATED };
    let whole = decode_whole(stream, limits);
    let mut decoder = FrameDecoder::new(limits);
    let mut frames: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut error = None;
    let mut rest = stream;
    let mut cut = u32::from(*cuts);
    'stream: while !rest.is_empty() {
        cut = cut.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let (mut input, behind) = rest.split_at((1 + (cut >> 16) as usize % (1 + *cuts as usize)).min(rest.len()));
        rest = behind;
        loop {
            match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Piece::Header(header))) => {
                    frames.push((header.to_vec(), Vec::new()));
                    let size = body_size(header, limits);
                    decoder.expect_body(size);
                }
                Ok(Some(Piece::Body(bytes))) => {
                    assert!(!bytes.is_empty());
                    frames.last_mut().unwrap().1.extend_from_slice(bytes);
                }
                Ok(Some(Piece::End)) => assert_eq!(decoder.body_left(), 0),
                Err(e) => {
                    error = Some(e);
                    break 'stream;
                }
            }
        }
        assert!(input.is_empty(), "who needs more has taken everything");
    }
    assert_eq!((frames, error), whole);
}

/// A header is understood as serde_json understands it, and whatever is
/// refused about it fits into a frame.
pub fn header(data: &[u8]) {
    let object: Option<BTreeMap<String, &RawValue>> = serde_json::from_slice(data).ok();
    match RequestHeader::parse(data, Limits::FULL) {
        Err(error) => {
            if matches!(error, FrameError::Header(_)) {
                assert!(object.is_none(), "{error}");
            }
            let message = error.to_string();
            frame::encode(&FatalError { error: ErrorCode::BadFrame, message: &message }, b"");
        }
        Ok(header) => {
            let object = object.expect("what was understood is an object");
            let number = |name: &str| object.get(name).map(|raw| serde_json::from_str::<u64>(raw.get()));
            assert!(header.size <= Limits::FULL.body);
            assert_eq!(number("size").map(|size| size.unwrap() as usize).unwrap_or(0), header.size);
            if let Some(id) = header.id {
                assert!(id <= MAX_ID && number("id").unwrap().unwrap() == id);
            }
            match header.request {
                Ok(request) => {
                    let cmd: String = serde_json::from_str(object["cmd"].get()).unwrap();
                    assert_eq!(cmd, request.command());
                }
                Err(malformed) => {
                    let refused = Refused::new(malformed.re.as_deref(), header.id, &malformed.refusal);
                    assert!(frame::encode(&refused, b"").len() < 10_000, "a refusal of bounded length");
                }
            }
        }
    }
}

/// A path is accepted where each of the protocol's rules holds, and nowhere else.
pub fn path(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else { return };
    let component =
        |c: &str| !matches!(c, "" | "." | "..") && c.len() <= 255 && !c.starts_with(".reactord-") && !c.contains('\0');
    let allowed =
        path.len() <= paths::MAX_PATH && !path.chars().any(char::is_control) && path.split('/').all(component);
    let checked = paths::check(path);
    assert_eq!(checked.is_ok(), allowed, "{path:?}");
    assert_eq!(paths::check_or_root(path).is_ok(), allowed || path.is_empty());
    if let Err(refusal) = checked {
        assert_eq!(refusal.code, ErrorCode::InvalidPath);
        assert!(!refusal.message.chars().any(char::is_control) && refusal.message.len() < 4_000);
    } else {
        let normal = |c| matches!(c, std::path::Component::Normal(_));
        assert!(std::path::Path::new(path).components().all(normal));
    }
}

/// Characters that no text from a server may bring to a terminal: controls,
/// and those that turn the reading direction (Unicode, UAX #9) or are not seen.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{ad}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// What is shown of a text holds nothing dangerous and is otherwise the text.
pub fn terminal(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let shown = text::visible(&text);
    assert!(!shown.contains(is_dangerous), "{shown:?}");
    let mut all = text.chars();
    assert!(shown.chars().all(|c| all.any(|other| other == c)), "nothing is added or moved");
    assert_eq!(text::visible(&shown), shown);
    assert!(!text::visible_lines(&text).contains(|c| c != '\n' && is_dangerous(c)));
    let json = serde_json::to_string(&*text).unwrap();
    let escaped = text::escape_json(&json);
    assert!(!escaped.contains(is_dangerous));
    assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), *text);
    assert!(!text::fit(&text, data.len() % 40).contains(is_dangerous));
}

/// Requests of every kind, on few ids and names, so that they meet.
const REQUESTS: [(&str, &str); 45] = [
    (r#"{"cmd":"hello","version":1,"nick":"a"}"#, ""),
    (r#"{"cmd":"hello","version":1,"token":"wrong"}"#, ""),
    (r#"{"cmd":"echo","id":1,"size":3}"#, "abc"),
    (r#"{"cmd":"echo"}"#, ""),
    (r#"{"cmd":"stats","id":2}"#, ""),
    (r#"{"cmd":"join","id":1,"room":"r"}"#, ""),
    (r#"{"cmd":"join","room":"s","history":0}"#, ""),
    (r#"{"cmd":"join","id":3,"room":"r","after":1}"#, ""),
    (r#"{"cmd":"say","id":4,"room":"r","size":2}"#, "hi"),
    (r#"{"cmd":"say","room":"r","size":5}"#, "hello"),
    (r#"{"cmd":"say","room":"s","size":1}"#, "x"),
    (r#"{"cmd":"tell","id":5,"to":"guest-1","size":1}"#, "x"),
    (r#"{"cmd":"tell","to":"a","size":1}"#, "y"),
    (r#"{"cmd":"leave","room":"r"}"#, ""),
    (r#"{"cmd":"nick","nick":"b"}"#, ""),
    (r#"{"cmd":"rooms"}"#, ""),
    (r#"{"cmd":"who","room":"r"}"#, ""),
    (r#"{"cmd":"history","id":6,"room":"r","limit":3}"#, ""),
    (r#"{"cmd":"exec","id":1,"shell":"out 500; exit 3"}"#, ""),
    (r#"{"cmd":"exec","id":2,"shell":"cat; err 10","hangup":"finish"}"#, ""),
    (r#"{"cmd":"exec","id":3,"shell":"out 400000; wait","timeout_ms":1000}"#, ""),
    (r#"{"cmd":"exec","id":4,"shell":"out 1; hold; exit 0","stdin":false}"#, ""),
    (r#"{"cmd":"exec","id":5,"shell":"cat","pty":{"rows":24,"cols":80}}"#, ""),
    (r#"{"cmd":"exec","id":6,"argv":["none"]}"#, ""),
    (r#"{"cmd":"input","id":2,"size":4}"#, "text"),
    (r#"{"cmd":"input","id":2,"eof":true}"#, ""),
    (r#"{"cmd":"input","id":1,"size":4}"#, "text"),
    (r#"{"cmd":"signal","id":3,"signal":"TERM"}"#, ""),
    (r#"{"cmd":"resize","id":5,"rows":1,"cols":1}"#, ""),
    (r#"{"cmd":"jobs"}"#, ""),
    (r#"{"cmd":"kill","job":1}"#, ""),
    (r#"{"cmd":"get","id":1,"path":"f"}"#, ""),
    (r#"{"cmd":"get","id":2,"path":"big","offset":100}"#, ""),
    (r#"{"cmd":"get","id":7,"path":"none"}"#, ""),
    (r#"{"cmd":"put","id":1,"path":"p","length":6,"exists":"replace"}"#, ""),
    (r#"{"cmd":"put","id":8,"path":"q","length":0,"resume":"k"}"#, ""),
    (r#"{"cmd":"data","id":1,"size":3}"#, "abc"),
    (r#"{"cmd":"data","id":8,"size":1}"#, "x"),
    (r#"{"cmd":"end","id":1}"#, ""),
    (r#"{"cmd":"end","id":8}"#, ""),
    (r#"{"cmd":"cancel","id":1}"#, ""),
    (r#"{"cmd":"cancel","id":2}"#, ""),
    (r#"{"cmd":"hash","id":7,"path":"big"}"#, ""),
    (r#"{"cmd":"stat","id":9,"path":"f"}"#, ""),
    (r#"{"cmd":"rename","id":9,"path":"p","to":"f","exists":"replace"}"#, ""),
];

/// Whatever is done to two sessions, in whatever order, they keep to the
/// protocol's frames, hold no more than they may, and leave nothing behind.
/// Each operation is two bytes: what, and how much of it.
pub fn session(data: &[u8]) {
    let [first, operations @ ..] = data else { return };
    let mut world = World::new(config((first & 1 == 1).then_some(TOKEN)));
    world.disk.put("f", vec![b'f'; 100]);
    static BIG: LazyLock<Arc<Vec<u8>>> = LazyLock::new(|| Arc::new(vec![b'b'; 300_000]));
    world.disk.files.insert("big".to_owned(), Arc::clone(&BIG));
    world.disk.fail_at = (first & 2 == 2).then_some(u64::from(first >> 4));
    let peers = [world.connect(), world.connect()];
    if first & 1 == 1 {
        let hello = format!(r#"{{"cmd":"hello","version":1,"token":"{TOKEN}"}}"#);
        for id in peers {
            world.send_pieces(id, [&raw_frame(hello.as_bytes(), b"")[..]]);
        }
    }
    for id in peers {
        world.set_reading(id, first & 4 == 0);
    }
    let mut at = 0;
    while let Some(&[what, amount]) = operations.get(at..at + 2) {
        at += 2;
        operate(&mut world, peers[usize::from(what >> 7)], what & 0x7f, amount, &operations[at..], &mut at);
        for id in peers {
            let queued = world.peer(id).out.queue.len();
            assert!(queued < MOST_QUEUED, "{queued} bytes are queued");
        }
    }
    for id in peers {
        world.set_reading(id, true);
        world.finish(id);
    }
    world.pass(Duration::from_secs(5));
    for id in peers {
        let frames = world.received(id);
        let last_words = frames.iter().position(|frame| frame.kind() == "error");
        assert!(last_words.is_none_or(|at| at + 1 == frames.len()), "nothing comes behind the last words");
        assert!(world.is_clean(id) || world.is_reset(id), "the last frame is whole");
        if !world.is_closed(id) {
            world.close(id);
        }
    }
    assert_eq!((world.disk.open_files(), world.children.len(), world.rooms.counts().1), (0, 0, 0));
}

fn operate(world: &mut World, id: ConnId, what: u8, amount: u8, rest: &[u8], at: &mut usize) {
    let n = usize::from(amount);
    match what {
        // Most of the time, requests; whole, in two parts, or damaged.
        0..64 => {
            let (header, body) = REQUESTS[n % REQUESTS.len()];
            let mut bytes = raw_frame(header.as_bytes(), body.as_bytes());
            if what & 7 == 7 {
                let place = usize::from(what) * 5 % bytes.len();
                bytes[place] ^= 1 << (what >> 3 & 7);
            }
            let cut = usize::from(what) * 3 % bytes.len();
            world.send_pieces(id, [&bytes[..cut], &bytes[cut..]]);
            if what & 1 == 1 {
                world.run_input();
            }
        }
        64..72 => {
            let raw = &rest[..n.min(rest.len())];
            world.send_pieces(id, [raw]);
            *at += raw.len();
        }
        72..80 => drop(world.run_input()),
        80..88 => {
            if let Some((conn, reply)) = world.disk.complete(n) {
                world.feed(conn, Input::Disk(reply));
            }
        }
        88..96 => {
            let jobs = world.children.ids();
            if !jobs.is_empty() {
                world.run_child(jobs[n % jobs.len()], 1 + n * 7);
            }
        }
        96..104 => drop(world.flush_open(id, n * n)),
        104..108 => world.pass(Duration::from_millis(n as u64 * n as u64)),
        108 => world.finish(id),
        109 => drop(
            world.is_closed(id) || {
                world.close(id);
                true
            },
        ),
        110 => world.feed(id, Input::SlowConsumer),
        111 => world.feed(id, Input::Shutdown),
        112 => world.feed(id, Input::Kicked),
        113 => world.disk.truncate("big", n * 1_000),
        // What a driver may say at any time, and what comes too late.
        114 => world.feed(id, Input::Drained),
        115 => world.feed(id, Input::FileShrank(FileHandle(n as u64))),
        116 => world.child_event(
            id,
            JobId(n as u64 + 1_000),
            ChildEvent::Output(reactord::proto::exec::Stream::Stdout, b"x"),
        ),
        117 => {
            let reply = DiskReply { ticket: Ticket(n as u64 + 1_000_000), result: Ok(DiskDone::Done) };
            world.feed(id, Input::Disk(reply));
        }
        118 => drop(world.run_output()),
        119 => world.set_reading(id, n & 1 == 0),
        120..124 => drop(world.run_start()),
        _ => world.run(),
    }
}
