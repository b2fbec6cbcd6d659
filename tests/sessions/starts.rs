//! Commands that take their time to start: what comes between an `exec` and
//! its answer.

use super::support::frames::frame;
use super::support::world::{World, config};
use super::{expect_fatal, outline};
use reactord::proto::{ConnId, Input, SessionConfig};
use serde_json::{Value, json};
use std::time::Duration;

/// A connection that has asked for a command, which has not been started.
fn asked(request: Value) -> (World, ConnId) {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.send(id, request, b"");
    take_input(&mut world);
    assert!(world.children.len() == 0 && world.peer(id).out.queue.is_empty());
    (world, id)
}

fn take_input(world: &mut World) {
    while world.run_input() {}
}

#[test]
fn what_follows_happens_to_the_command_and_is_answered_behind_it() {
    let (mut world, id) = asked(json!({"cmd": "exec", "id": 1, "shell": "cat; exit 3"}));
    world.send(id, json!({"cmd": "input", "id": 1}), b"in");
    world.send(id, json!({"cmd": "echo", "id": 2}), b"");
    world.send(id, json!({"cmd": "input", "id": 1, "eof": true}), b"put");
    world.send(id, json!({"cmd": "input", "id": 1}), b"late");
    take_input(&mut world);
    assert!(world.peer(id).out.queue.is_empty());
    let frames = world.received(id);
    assert_eq!(outline(&frames)[..3], ["exec 1", "echo 2", "input 1 conflict"]);
    let stdout: Vec<u8> = frames.iter().filter(|f| f.kind() == "stdout").flat_map(|f| f.body.clone()).collect();
    assert_eq!((&stdout[..], &frames.last().unwrap().header["code"]), (&b"input"[..], &json!(3)));

    let pty = json!({"rows": 24, "cols": 80});
    let (mut world, id) = asked(json!({"cmd": "exec", "id": 1, "shell": "wait", "pty": pty}));
    world.send(id, json!({"cmd": "resize", "id": 1, "rows": 9, "cols": 9}), b"");
    world.send(id, json!({"cmd": "signal", "id": 1, "signal": "INT"}), b"");
    let frames = world.received(id);
    assert_eq!(outline(&frames), ["exec 1", "signal 1", "exit 1"]);
    assert_eq!(frames[2].header["signal"], "SIGINT");
}

#[test]
fn several_are_started_and_answered_in_their_order() {
    let (mut world, id) = asked(json!({"cmd": "exec", "id": 1, "shell": "wait"}));
    for (n, text) in [(2, "no script"), (3, "wait"), (4, "no script"), (5, "wait")] {
        world.send(id, json!({"cmd": "exec", "id": n, "shell": text}), b"");
    }
    assert_eq!(outline(&world.received(id)), ["exec 1", "exec 2 not_found", "exec 3", "exec 4 not_found", "exec 5"]);
    world.close(id);
    assert_eq!(world.children.len(), 0);
}

#[test]
fn an_id_is_live_while_its_command_is_being_started() {
    let (mut world, id) = asked(json!({"cmd": "exec", "id": 1, "shell": "wait"}));
    world.send(id, json!({"cmd": "echo", "id": 1}), b"");
    assert_eq!(outline(&expect_fatal(&mut world, id, "conflict")), ["exec 1"]);
    assert_eq!(world.children.len(), 0);
}

#[test]
fn others_do_not_see_a_command_before_it_is_there() {
    let (mut world, _) = asked(json!({"cmd": "exec", "id": 1, "shell": "wait"}));
    let other = world.connect();
    world.send(other, json!({"cmd": "jobs"}), b"");
    world.send(other, json!({"cmd": "kill", "job": 1}), b"");
    take_input(&mut world);
    world.run_output();
    world.run_start();
    let frames = world.received(other);
    assert_eq!((&frames[0].body[..], frames[1].error()), (&b"[]"[..], Some("not_found")));
}

#[test]
fn an_end_of_input_waits_for_the_start() {
    for (hangup, expected) in [("kill", json!("killed")), ("finish", json!(null))] {
        let (mut world, id) = asked(json!({"cmd": "exec", "id": 1, "shell": "cat; exit 0", "hangup": hangup}));
        world.finish(id);
        // A driver may have seen the end already when it read the request.
        world.feed(id, Input::Eof);
        assert!(!world.is_closed(id));
        let frames = world.received(id);
        assert_eq!(outline(&frames), ["exec 1", "exit 1"], "{hangup}");
        assert_eq!(frames[1].header["reason"], expected);
        assert!(world.is_closed(id) && world.children.len() == 0);
    }
}

#[test]
fn a_connection_that_is_gone_or_ended_meanwhile_leaves_no_command() {
    let request = json!({"cmd": "exec", "id": 1, "shell": "wait", "hangup": "finish"});
    let (mut world, id) = asked(request.clone());
    world.close(id);
    world.run();
    assert_eq!(world.children.len(), 0);
    let ends =
        [(Input::Shutdown, "shutting_down"), (Input::Kicked, "forbidden"), (Input::SlowConsumer, "slow_consumer")];
    for (end, code) in ends {
        let (mut world, id) = asked(request.clone());
        world.feed(id, end);
        assert_eq!(outline(&expect_fatal(&mut world, id, code)), [""; 0]);
        assert_eq!(world.children.len(), 0);
    }
}

#[test]
fn a_start_counts_neither_against_the_commands_time_nor_against_the_clients() {
    let mut world = World::new(SessionConfig { idle_timeout: Some(Duration::from_secs(60)), ..config(None) });
    let id = world.connect();
    let mut bytes = frame(json!({"cmd": "exec", "id": 1, "shell": "wait", "timeout_ms": 1_000}), b"");
    let request = frame(json!({"cmd": "echo", "id": 2}), b"");
    bytes.extend(&request[..5]);
    world.send_pieces(id, [&bytes[..]]);
    take_input(&mut world);
    assert_eq!(world.peer(id).session.poll_timeout(), None);
    world.set_time(world.now.instant + Duration::from_secs(3_600));
    assert_eq!(outline(&world.received(id)), ["exec 1"]);
    world.pass(Duration::from_millis(999));
    assert_eq!(world.received(id), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(outline(&world.received(id)), ["exit 1"]);
    world.send_pieces(id, [&request[5..]]);
    assert_eq!(outline(&world.received(id)), ["echo 2"]);
}
