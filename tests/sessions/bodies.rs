//! What becomes of bodies: gathered, passed on, refused, thrown away.

use super::support::frames::{frame, raw_frame};
use super::support::world::{World, config};
use super::{expect_fatal, outline};
use serde_json::json;

#[test]
fn a_body_that_nobody_wants_is_skipped() {
    let mut world = World::new(config(None));
    let id = world.connect();
    for cmd in ["stat", "jobs", "rooms", "hello", "nonsense", "exec"] {
        world.send(id, json!({"cmd": cmd}), b"{\"cmd\":\"echo\"}");
        world.send(id, json!({"cmd": "echo", "id": 1}), b"x");
        let frames = world.received(id);
        assert_eq!((frames.len(), frames[0].kind(), frames[1].kind()), (2, cmd, "echo"), "{cmd}");
    }
}

#[test]
fn an_announced_body_over_the_cap_is_the_end_and_at_the_cap_is_not() {
    let mut world = World::new(config(None));
    let id = world.connect();
    let body = vec![b'x'; 1 << 20];
    world.send(id, json!({"cmd": "echo", "id": 1}), &body);
    let frames = world.received(id);
    assert_eq!((frames.len(), frames[0].body.len()), (1, 1 << 20));
    for size in ["1048577", "-1", "1.0", "true", "null", "\"1\"", "9223372036854775808", "1,\"size\":1"] {
        let mut world = World::new(config(None));
        let id = world.connect();
        let header = format!("{{\"cmd\":\"echo\",\"size\":{size}}}");
        world.send(id, json!({"cmd": "echo", "id": 1}), b"");
        world.send_pieces(id, [&raw_frame(header.as_bytes(), b"")[..]]);
        assert_eq!(outline(&expect_fatal(&mut world, id, "bad_frame")), ["echo 1"], "{size}");
    }
}

#[test]
fn a_header_that_is_no_object_is_the_end() {
    let bad: [&[u8]; 6] = [b"[1]", b"{", b"{}{}", b"\xff", b"\"x\"", b"{\"cmd\":\"echo\"}x"];
    for header in bad {
        let mut world = World::new(config(None));
        let id = world.connect();
        world.send_pieces(id, [&raw_frame(header, b"")[..]]);
        assert_eq!(expect_fatal(&mut world, id, "bad_frame"), []);
    }
}

#[test]
fn a_message_is_text_of_limited_length() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.call(id, json!({"cmd": "join", "room": "r"}));
    let long = vec![b'x'; 65_537];
    for (body, error) in [
        (&b""[..], Some("bad_request")),
        (b"\xff", Some("bad_request")),
        (&long[..], Some("too_large")),
        (&long[..65_536], None),
    ] {
        world.send(id, json!({"cmd": "say", "id": 1, "room": "r"}), body);
        world.send(id, json!({"cmd": "tell", "id": 2, "to": "guest-1"}), body);
        let frames = world.received(id);
        let answers: Vec<_> = frames.iter().filter(|frame| !frame.is_event()).map(|frame| frame.error()).collect();
        assert_eq!(answers, [error; 2]);
    }
}

#[test]
fn input_goes_to_its_command_as_it_comes() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.call(id, json!({"cmd": "exec", "id": 1, "shell": "cat; exit 0"}));
    let input = frame(json!({"cmd": "input", "id": 1}), b"half of it, the rest");
    let (begun, rest) = input.split_at(input.len() - 10);
    world.send_pieces(id, [begun]);
    let frames = world.received(id);
    assert_eq!((frames.len(), &frames[0].body[..]), (1, &b"half of it"[..]));
    world.send_pieces(id, [rest]);
    world.send(id, json!({"cmd": "input", "id": 1, "eof": true}), b"");
    assert_eq!(outline(&world.received(id)), ["stdout 1", "exit 1"]);
    world.send(id, json!({"cmd": "input", "id": 1}), b"too late");
    assert_eq!(outline(&world.received(id)), ["input 1 not_found"]);
}

#[test]
fn output_comes_in_frames_of_limited_length_and_unchanged() {
    use super::support::children::pattern;
    use reactord::proto::exec::Stream;
    let mut world = World::new(config(None));
    let id = world.connect();
    world.send(id, json!({"cmd": "exec", "id": 1, "shell": "out 300000; err 70000"}), b"");
    let frames = world.received(id);
    for (kind, stream, length) in [("stdout", Stream::Stdout, 300_000), ("stderr", Stream::Stderr, 70_000)] {
        let of: Vec<_> = frames.iter().filter(|frame| frame.kind() == kind).collect();
        assert!(of.iter().all(|frame| frame.body.len() <= 65_536));
        let bytes: Vec<u8> = of.iter().flat_map(|frame| frame.body.clone()).collect();
        assert_eq!(bytes.len(), length);
        assert!(bytes.chunks(100_000).enumerate().all(|(at, part)| part == pattern(stream, at * 100_000, part.len())));
    }
    assert_eq!(frames.last().unwrap().kind(), "exit");
}

#[test]
fn a_file_that_shrinks_under_a_download_leaves_its_frames_whole() {
    let mut world = World::new(config(None));
    world.disk.put("f", vec![1; 1 << 20]);
    let id = world.connect();
    world.set_reading(id, false);
    world.send(id, json!({"cmd": "get", "id": 1, "path": "f"}), b"");
    world.run();
    world.disk.truncate("f", 300_000);
    world.set_reading(id, true);
    let frames = world.received(id);
    let end = frames.last().unwrap();
    assert_eq!(outline(&frames[frames.len() - 1..]), ["end 1 changed"]);
    let data: Vec<u8> = frames.iter().filter(|f| f.kind() == "data").flat_map(|f| f.body.clone()).collect();
    assert_eq!(end.header["length"], data.len());
    assert!(data[..300_000].iter().all(|b| *b == 1) && data[300_000..].iter().all(|b| *b == 0));
    assert_eq!(world.call(id, json!({"cmd": "echo", "id": 1})).id(), Some(1));
}

#[test]
fn a_refusal_is_short_however_long_what_it_refuses_is() {
    let mut world = World::new(config(None));
    let id = world.connect();
    // Invisible characters are several times as long where a message escapes them.
    for text in ["x".repeat(65_000), "\u{300}".repeat(30_000), "\u{200b}".repeat(20_000), "\"".repeat(30_000)] {
        for request in [
            json!({"cmd": "exec", "id": 1, "shell": "x", "hangup": text}),
            json!({"cmd": "join", "id": 1, "room": "r", "history": text}),
            json!({"cmd": "signal", "id": 1, "signal": text}),
            json!({"cmd": "kill", "id": 1, "job": 1, "signal": text}),
            json!({"cmd": "exec", "id": 1, "shell": "x", "env": text}),
            json!({"cmd": "exec", "id": 1, "shell": "x", "pty": {"rows": text, "cols": 1}}),
            json!({"cmd": "stat", "id": 1, "path": text}),
            json!({"cmd": "join", "id": 1, "room": text}),
            json!({"cmd": "tell", "id": 1, "to": text}),
            json!({"cmd": "nick", "id": 1, "nick": text}),
            json!({"cmd": text, "id": 1}),
            json!({"cmd": "echo", "id": text}),
        ] {
            let body: &[u8] = if request["cmd"] == "tell" { b"x" } else { b"" };
            world.send(id, request.clone(), body);
            let frames = world.received(id);
            assert_eq!((frames.len(), frames[0].header["ok"].as_bool()), (1, Some(false)));
            assert!(frames[0].header.to_string().len() < 2_000, "the refusal of {}", frames[0].kind());
        }
        for header in [json!(text).to_string(), json!({"cmd": "echo", "size": text}).to_string()] {
            let mut world = World::new(config(None));
            let id = world.connect();
            world.send_pieces(id, [&raw_frame(header.as_bytes(), b"")[..]]);
            expect_fatal(&mut world, id, "bad_frame");
        }
    }
}
