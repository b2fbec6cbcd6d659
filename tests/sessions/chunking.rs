//! Any split and any coalescing of the same bytes gives the same transcript.

use super::support::frames::{Frame, frame, raw_frame};
use super::support::world::{TOKEN, World, config};
use serde_json::json;

/// Something of everything: all three services, refusals, bodies wanted and
/// not, a half close, and a command that outlives it.
fn conversation() -> Vec<u8> {
    let requests = [
        frame(json!({"cmd": "hello", "version": 2, "token": TOKEN}), b""),
        frame(json!({"cmd": "hello", "version": 1, "id": 1, "token": TOKEN, "nick": "anna"}), b""),
        frame(json!({"cmd": "echo", "id": 2}), b"body of an echo"),
        frame(json!({"cmd": "stat", "id": 3, "path": "f"}), b""),
        frame(json!({"cmd": "exec", "id": 4, "shell": "out 300; cat; err 20; exit 3", "hangup": "finish"}), b""),
        frame(json!({"cmd": "input", "id": 4}), b"some input"),
        frame(json!({"cmd": "join", "id": 5, "room": "r"}), b""),
        frame(json!({"cmd": "say", "id": 6, "room": "r"}), "grüße".as_bytes()),
        frame(json!({"cmd": "say", "room": "elsewhere"}), b"not there"),
        frame(json!({"cmd": "get", "id": 7, "path": "f", "offset": 10}), b""),
        frame(json!({"cmd": "put", "id": 8, "path": "g", "length": 9}), b""),
        frame(json!({"cmd": "data", "id": 8}), b"uplo"),
        frame(json!({"cmd": "data", "id": 8}), b"aded!"),
        frame(json!({"cmd": "end", "id": 8}), b""),
        frame(json!({"cmd": "hash", "id": 9, "path": "g"}), b""),
        frame(json!({"cmd": "nonsense", "id": 10}), b"with a body"),
        raw_frame(br#"{"cmd":"join","id":11,"room":5}"#, b""),
        frame(json!({"cmd": "put", "id": 12, "path": "never", "length": 5}), b""),
        frame(json!({"cmd": "data", "id": 12}), b"half"),
        frame(json!({"cmd": "history", "id": 13, "room": "r"}), b""),
        frame(json!({"cmd": "input", "id": 4, "eof": true}), b" and its end"),
    ];
    requests.concat()
}

fn transcript<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut world = World::new(config(Some(TOKEN)));
    world.disk.put("f", (0..2_000u32).map(|i| i as u8).collect());
    let id = world.connect();
    world.send_pieces(id, pieces);
    world.finish(id);
    let frames = world.received(id);
    assert!(world.is_closed(id) && world.is_clean(id));
    assert_eq!((world.disk.open_files(), world.children.len()), (0, 0));
    assert_eq!(world.disk.files.keys().collect::<Vec<_>>(), ["f", "g"]);
    frames
}

#[test]
fn the_conversation_goes_as_it_should() {
    let frames = transcript([&conversation()[..]]);
    let outline = super::outline(&frames);
    let expected = "hello bad_request; hello 1; echo 2; stat 3; exec 4; join 5; say 6; say forbidden; get 7; put 8; \
        end 8; nonsense 10 unknown_command; join 11 bad_request; put 12; history 13";
    let answers = |kind: &&String| expected.split("; ").any(|answer| answer == **kind);
    assert_eq!(outline.iter().filter(answers).cloned().collect::<Vec<_>>().join("; "), expected);
    let data: Vec<u8> = frames.iter().filter(|f| f.kind() == "data").flat_map(|f| f.body.clone()).collect();
    assert_eq!(data, (10..2_000u32).map(|i| i as u8).collect::<Vec<_>>());
    let exit = frames.iter().find(|frame| frame.kind() == "exit").unwrap();
    assert_eq!(exit.header, json!({"event": "exit", "id": 4, "code": 3}));
    let stdout: Vec<u8> = frames.iter().filter(|f| f.kind() == "stdout").flat_map(|f| f.body.clone()).collect();
    assert!(stdout.ends_with(b"some input and its end"));
    let hash = frames.iter().find(|frame| frame.kind() == "hash").unwrap();
    assert_eq!(hash.header["blake3"], blake3::hash(b"uploaded!").to_string());
}

#[test]
fn a_byte_at_a_time_gives_the_same_transcript() {
    let bytes = conversation();
    assert_eq!(transcript(bytes.chunks(1)), transcript([&bytes[..]]));
}

#[test]
fn every_split_gives_the_same_transcript() {
    let bytes = conversation();
    let whole = transcript([&bytes[..]]);
    for at in 1..bytes.len() {
        let (one, two) = bytes.split_at(at);
        assert_eq!(transcript([one, two]), whole, "split at {at}");
    }
}

#[test]
fn a_split_inside_each_frame_gives_the_same_transcript() {
    let bytes = conversation();
    let whole = transcript([&bytes[..]]);
    for length in [2, 3, 5, 7, 11, 64, 100, 333] {
        assert_eq!(transcript(bytes.chunks(length)), whole, "pieces of {length}");
    }
}
