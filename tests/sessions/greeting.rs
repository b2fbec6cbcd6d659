//! Who may speak: the greeting, its repetition, and its absence.

use super::expect_fatal;
use super::support::frames::{frame, raw_frame};
use super::support::world::{TOKEN, World, config};
use reactord::proto::Input;
use reactord::proto::session::{HEADER_TIMEOUT, Services};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_wrong_token_is_the_end() {
    for hello in [
        json!({"cmd": "hello", "version": 1, "token": "0123456789abcdee"}),
        json!({"cmd": "hello", "version": 1, "token": ""}),
        json!({"cmd": "hello", "version": 1}),
    ] {
        let mut world = World::new(config(Some(TOKEN)));
        let id = world.connect();
        world.send(id, hello, b"");
        world.send(id, json!({"cmd": "echo", "id": 1}), b"");
        assert_eq!(expect_fatal(&mut world, id, "unauthorized"), []);
        assert!(!world.peer(id).session.is_authenticated());
    }
}

#[test]
fn anything_before_hello_is_the_end() {
    for request in [
        frame(json!({"cmd": "echo", "id": 1}), b""),
        frame(json!({"cmd": "exec", "id": 1, "shell": "out 1"}), b""),
        frame(json!({"cmd": "who knows"}), b""),
        frame(json!({"no": "command"}), b""),
    ] {
        let mut world = World::new(config(Some(TOKEN)));
        let id = world.connect();
        world.send_pieces(id, [&request[..]]);
        assert_eq!(expect_fatal(&mut world, id, "unauthorized"), []);
        assert_eq!(world.children.len(), 0);
    }
}

#[test]
fn a_stranger_may_send_no_body_and_no_long_header() {
    let long = raw_frame(&[b' '; 4_097], b"");
    let body = frame(json!({"cmd": "hello", "version": 1, "token": TOKEN}), b"x");
    for bytes in [long, body] {
        let mut world = World::new(config(Some(TOKEN)));
        let id = world.connect();
        world.send_pieces(id, [&bytes[..]]);
        expect_fatal(&mut world, id, "bad_frame");
    }
}

#[test]
fn a_greeting_makes_room_for_long_headers_in_the_same_read() {
    let mut world = World::new(config(Some(TOKEN)));
    let id = world.connect();
    let hello = frame(json!({"cmd": "hello", "version": 1, "token": TOKEN}), b"");
    let padding = "x".repeat(60_000);
    let echo = frame(json!({"cmd": "echo", "id": 1, "padding": padding}), b"body");
    world.send_pieces(id, [&[hello, echo].concat()[..]]);
    assert_eq!(super::outline(&world.received(id)), ["hello", "echo 1"]);
}

#[test]
fn hello_may_be_repeated_until_it_succeeds_and_then_not() {
    let mut world = World::new(config(Some(TOKEN)));
    world.client("Anna");
    let id = world.connect();
    let refused = world.call(id, json!({"cmd": "hello", "id": 1, "version": 7, "token": TOKEN}));
    assert_eq!((refused.error(), refused.id()), (Some("bad_request"), Some(1)));
    assert_eq!(refused.header["versions"], json!([1]));
    let refused = world.call(id, json!({"cmd": "hello", "version": 1, "nick": "ANNA"}));
    assert_eq!((refused.error(), &refused.header["suggestion"]), (Some("exists"), &json!("ANNA-2")));
    let refused = world.call(id, json!({"cmd": "hello", "version": 1, "nick": " "}));
    assert_eq!(refused.error(), Some("invalid_name"));
    let welcome = world.call(id, json!({"cmd": "hello", "version": 1, "nick": "ANNA-2"}));
    assert_eq!(welcome.header["nick"], "ANNA-2");
    assert_eq!(welcome.header["services"], json!(["chat", "exec", "file"]));
    let again = world.call(id, json!({"cmd": "hello", "version": 1, "nick": "other"}));
    assert_eq!(again.error(), Some("conflict"));
    assert_eq!(world.rooms.nick(id).map(|nick| &**nick), Some("ANNA-2"));
}

#[test]
fn a_wrong_token_is_the_end_even_after_the_right_one() {
    let mut world = World::new(config(Some(TOKEN)));
    let id = world.client("a");
    world.send(id, json!({"cmd": "hello", "version": 1, "token": "guess"}), b"");
    expect_fatal(&mut world, id, "unauthorized");
}

#[test]
fn without_authentication_hello_is_optional() {
    let mut world = World::new(config(None));
    let id = world.connect();
    assert_eq!(world.call(id, json!({"cmd": "echo", "id": 1})).id(), Some(1));
    let joined = world.call(id, json!({"cmd": "join", "room": "r"}));
    assert_eq!(joined.body, br#"["guest-1"]"#);
    let named = world.call(id, json!({"cmd": "hello", "version": 1, "nick": "a", "token": "any"}));
    assert_eq!((&named.header["ok"], &named.header["nick"]), (&json!(true), &json!("a")));
    assert_eq!(world.call(id, json!({"cmd": "hello", "version": 1})).error(), Some("conflict"));
}

#[test]
fn silence_ends_a_stranger_after_ten_seconds_however_it_drips() {
    let mut world = World::new(config(Some(TOKEN)));
    let (silent, dripping) = (world.connect(), world.connect());
    let open = World::new(config(None)).connect();
    let hello = frame(json!({"cmd": "hello", "version": 1, "token": TOKEN}), b"");
    for byte in &hello[..9] {
        world.feed(dripping, Input::Bytes(&[*byte]));
        world.pass(Duration::from_millis(1_100));
        assert_eq!(world.received(silent), []);
    }
    world.pass(HEADER_TIMEOUT - 9 * Duration::from_millis(1_100));
    expect_fatal(&mut world, silent, "timeout");
    expect_fatal(&mut world, dripping, "timeout");
    // With no authentication nobody must greet.
    let mut world = World::new(config(None));
    assert_eq!(world.connect(), open);
    world.pass(Duration::from_secs(3_600));
    assert!(!world.is_closed(open) && world.received(open).is_empty());
}

#[test]
fn services_that_are_off_are_disabled_and_their_bodies_skipped() {
    let services = Services { chat: false, exec: false, file: false };
    let mut world = World::new(reactord::proto::SessionConfig { services, ..config(Some(TOKEN)) });
    let id = world.connect();
    let welcome = world.call(id, json!({"cmd": "hello", "version": 1, "token": TOKEN}));
    assert_eq!(welcome.header["services"], json!([]));
    for (at, cmd) in [
        json!({"cmd": "join", "room": "r"}),
        json!({"cmd": "say", "room": "r"}),
        json!({"cmd": "exec", "shell": "out 1"}),
        json!({"cmd": "input"}),
        json!({"cmd": "jobs"}),
        json!({"cmd": "kill", "job": 1}),
        json!({"cmd": "put", "path": "f", "length": 1}),
        json!({"cmd": "data"}),
        json!({"cmd": "cancel"}),
        json!({"cmd": "list", "path": ""}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut cmd = cmd;
        cmd["id"] = at.into();
        world.send(id, cmd.clone(), b"a body");
        world.send(id, json!({"cmd": "echo"}), b"");
        let frames = world.received(id);
        assert_eq!(super::outline(&frames), [format!("{} {at} disabled", cmd["cmd"].as_str().unwrap()), "echo".into()]);
    }
}
