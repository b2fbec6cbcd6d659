//! How connections end: half closes, time-outs, stops, and those who vanish.

use super::support::frames::frame;
use super::support::world::{TOKEN, World, config};
use super::{expect_fatal, outline};
use reactord::proto::session::{BODY_TIMEOUT, HEADER_TIMEOUT};
use reactord::proto::{Input, SessionConfig};
use serde_json::json;
use std::time::Duration;

#[test]
fn what_was_asked_for_before_a_half_close_is_answered() {
    let mut world = World::new(config(None));
    world.disk.put("f", vec![3; 2 << 20]);
    let id = world.connect();
    world.send(id, json!({"cmd": "get", "id": 1, "path": "f"}), b"");
    world.send(id, json!({"cmd": "hash", "id": 2, "path": "f"}), b"");
    world.send(id, json!({"cmd": "put", "id": 3, "path": "g", "length": 4}), b"");
    world.send(id, json!({"cmd": "data", "id": 3}), b"data");
    world.send(id, json!({"cmd": "end", "id": 3}), b"");
    world.send(id, json!({"cmd": "echo", "id": 4}), &vec![b'x'; 1 << 20]);
    world.finish(id);
    let frames = world.received(id);
    assert!(world.is_closed(id));
    let outline = outline(&frames);
    for last in ["end 1", "hash 2", "end 3", "echo 4"] {
        assert!(outline.iter().any(|line| line == last), "{last} in {outline:?}");
    }
    let sent: usize = frames.iter().filter(|frame| frame.kind() == "data").map(|frame| frame.body.len()).sum();
    assert_eq!((sent, &world.disk.files["g"][..]), (2 << 20, &b"data"[..]));
}

#[test]
fn an_incomplete_upload_is_dropped_at_a_half_close() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.send(id, json!({"cmd": "put", "id": 1, "path": "g", "length": 4}), b"");
    world.send(id, json!({"cmd": "data", "id": 1}), b"dat");
    world.finish(id);
    assert_eq!(outline(&world.received(id)), ["put 1"]);
    assert!(world.is_closed(id));
    assert_eq!((world.disk.files.len(), world.disk.open_files()), (0, 0));
}

#[test]
fn an_end_of_input_inside_a_frame_loses_no_answer_before_it() {
    let request = frame(json!({"cmd": "echo", "id": 1}), b"body");
    for cut in 1..request.len() {
        let mut world = World::new(config(None));
        let id = world.connect();
        world.send_pieces(id, [&request[..], &request[..cut]]);
        world.finish(id);
        assert_eq!(outline(&world.received(id)), ["echo 1"]);
        assert!(world.is_closed(id));
    }
}

#[test]
fn a_half_close_ends_commands_except_those_that_are_to_finish() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.send(id, json!({"cmd": "exec", "id": 1, "shell": "wait"}), b"");
    world.send(id, json!({"cmd": "exec", "id": 2, "shell": "cat; out 5; exit 3", "hangup": "finish"}), b"");
    world.send(id, json!({"cmd": "input", "id": 2}), b"in");
    world.finish(id);
    let frames = world.received(id);
    let exits: Vec<_> =
        frames.iter().filter(|frame| frame.kind() == "exit").map(|frame| frame.header.clone()).collect();
    assert!(exits.contains(&json!({"event": "exit", "id": 1, "signal": "SIGTERM", "reason": "killed"})));
    assert!(exits.contains(&json!({"event": "exit", "id": 2, "code": 3})));
    let stdout: Vec<u8> = frames.iter().filter(|f| f.kind() == "stdout").flat_map(|f| f.body.clone()).collect();
    assert_eq!((stdout.len(), &stdout[..2]), (7, &b"in"[..]));
    assert!(world.is_closed(id) && world.children.len() == 0);
}

#[test]
fn a_command_that_is_to_finish_ends_when_its_connection_fails() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.call(id, json!({"cmd": "exec", "id": 1, "shell": "wait", "hangup": "finish"}));
    world.finish(id);
    world.run();
    assert!(!world.is_closed(id) && world.children.len() == 1);
    world.close(id);
    assert_eq!(world.children.len(), 0);
}

#[test]
fn one_who_vanishes_leaves_nothing_behind() {
    let mut world = World::new(config(None));
    world.disk.put("f", vec![3; 2 << 20]);
    let (id, other) = (world.connect(), world.connect());
    world.call(id, json!({"cmd": "hello", "version": 1, "nick": "gone"}));
    world.call(id, json!({"cmd": "join", "room": "r"}));
    world.call(other, json!({"cmd": "join", "room": "r"}));
    world.set_reading(id, false);
    for request in [
        json!({"cmd": "exec", "id": 1, "shell": "out 9000000"}),
        json!({"cmd": "get", "id": 2, "path": "f"}),
        json!({"cmd": "put", "id": 3, "path": "g", "length": 4}),
        json!({"cmd": "hash", "id": 4, "path": "f"}),
    ] {
        world.send(id, request, b"");
    }
    world.run();
    world.close(id);
    assert_eq!((world.children.len(), world.disk.open_files(), world.rooms.counts().1), (0, 0, 1));
    let left = world.received(other).pop().unwrap();
    assert_eq!(left.header, json!({"event": "left", "room": "r", "nick": "gone", "reason": "disconnected"}));
}

#[test]
fn a_stop_answers_what_is_complete_and_says_why() {
    let mut world = World::new(config(None));
    let (id, other) = (world.connect(), world.connect());
    world.call(id, json!({"cmd": "join", "room": "r"}));
    world.call(other, json!({"cmd": "join", "room": "r"}));
    world.send(id, json!({"cmd": "exec", "id": 1, "shell": "wait"}), b"");
    world.send(id, json!({"cmd": "echo", "id": 2}), b"");
    while world.run_input() || world.run_start() {}
    world.feed(id, Input::Shutdown);
    let frames = expect_fatal(&mut world, id, "shutting_down");
    assert_eq!(outline(&frames), ["joined", "exec 1", "echo 2"]);
    assert_eq!(world.received(other).pop().unwrap().header["reason"], "shutting_down");
    assert_eq!(world.children.len(), 0);
    world.send(id, json!({"cmd": "echo", "id": 3}), b"");
    assert_eq!(world.received(id), []);
}

#[test]
fn a_kick_says_so() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.feed(id, Input::Kicked);
    expect_fatal(&mut world, id, "forbidden");
}

#[test]
fn a_slow_header_and_a_slow_body_are_ended_and_steady_ones_are_not() {
    let mut world = World::new(config(Some(TOKEN)));
    let (header, body, steady) = (world.client("a"), world.client("b"), world.client("c"));
    let request = frame(json!({"cmd": "echo", "id": 1}), &[b'x'; 100_000]);
    let start = request.len() - 100_000;
    world.send_pieces(header, [&request[..5]]);
    world.send_pieces(body, [&request[..start]]);
    world.send_pieces(steady, [&request[..start]]);
    world.pass(HEADER_TIMEOUT - Duration::from_millis(1));
    assert_eq!(world.received(header), []);
    world.pass(Duration::from_millis(1));
    expect_fatal(&mut world, header, "timeout");
    // 100,000 bytes may take 30 seconds and as many as they have KiB.
    let allowed = BODY_TIMEOUT + Duration::from_secs(100_000 / 1_024);
    let pieces: Vec<&[u8]> = request[start..].chunks(1_000).collect();
    for piece in &pieces[..99] {
        world.send_pieces(steady, [*piece]);
        world.pass((allowed - HEADER_TIMEOUT) / 101);
    }
    world.send_pieces(steady, [pieces[99]]);
    assert_eq!(outline(&world.received(steady)), ["echo 1"]);
    world.pass(allowed / 10);
    expect_fatal(&mut world, body, "timeout");
    world.pass(Duration::from_secs(3_600));
    assert_eq!(outline(&world.received(steady)), [""; 0]);
}

#[test]
fn an_idle_connection_is_ended_only_where_the_server_is_told_to() {
    let mut world = World::new(SessionConfig { idle_timeout: Some(Duration::from_secs(60)), ..config(None) });
    let id = world.connect();
    world.pass(Duration::from_secs(59));
    world.call(id, json!({"cmd": "echo"}));
    world.pass(Duration::from_secs(59));
    assert_eq!(world.received(id), []);
    world.pass(Duration::from_secs(1));
    expect_fatal(&mut world, id, "timeout");
}

#[test]
fn a_connection_is_not_idle_while_something_of_it_runs_nor_at_once_when_it_ends() {
    let mut world = World::new(SessionConfig { idle_timeout: Some(Duration::from_secs(60)), ..config(None) });
    let id = world.connect();
    world.call(id, json!({"cmd": "exec", "id": 1, "shell": "wait", "timeout_ms": 600_000}));
    world.pass(Duration::from_secs(600));
    assert_eq!(outline(&world.received(id)), ["exit 1"]);
    world.pass(Duration::from_secs(59));
    assert_eq!(outline(&world.received(id)), [""; 0]);
    world.pass(Duration::from_secs(1));
    expect_fatal(&mut world, id, "timeout");
}

#[test]
fn outputs_that_are_held_open_count_as_over_after_half_a_second_of_silence() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.send(id, json!({"cmd": "exec", "id": 1, "shell": "out 3; hold; exit 0"}), b"");
    assert_eq!(outline(&world.received(id)), ["exec 1", "stdout 1"]);
    world.pass(Duration::from_millis(499));
    assert_eq!(world.received(id), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(outline(&world.received(id)), ["exit 1"]);
    assert_eq!(world.children.len(), 0);
}
