//! Peers that read slowly or not at all: pauses, resumption and the limit.

use super::support::world::{World, config};
use super::{expect_fatal, outline};
use reactord::proto::outbox::{HIGH_WATER, LOW_WATER};
use reactord::proto::{ConnId, Input};
use serde_json::json;

fn echoes(world: &mut World, id: ConnId, count: u64, size: usize) {
    for at in 0..count {
        world.send(id, json!({"cmd": "echo", "id": at}), &vec![b'x'; size]);
    }
}

#[test]
fn above_the_high_water_mark_no_more_requests_are_taken() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.set_reading(id, false);
    echoes(&mut world, id, 100, 10_000);
    world.run();
    let queued = world.peer(id).out.queue.len();
    assert!((HIGH_WATER..HIGH_WATER + 11_000).contains(&queued), "{queued}");
    assert!(!world.peer(id).session.wants(&world.peer(id).out).socket_read);
    world.set_reading(id, true);
    let frames = world.received(id);
    assert_eq!(frames.iter().filter_map(|frame| frame.id()).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
}

#[test]
fn requests_that_came_in_one_read_go_on_when_the_queue_drains() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.set_reading(id, false);
    let request = super::support::frames::frame(json!({"cmd": "echo"}), &[b'x'; 60_000]);
    world.send_pieces(id, [&request.repeat(20)[..]]);
    world.run();
    assert!(world.peer(id).session.wants_drained());
    // Nothing goes on before the low-water mark.
    while world.peer(id).out.queue.len() >= LOW_WATER + 1_000 {
        let before = world.peer(id).out.queue.len();
        world.flush(id, 1_000);
        assert_eq!(world.peer(id).out.queue.len(), before - 1_000);
    }
    world.set_reading(id, true);
    assert_eq!(world.received(id).len(), 20);
}

#[test]
fn a_commands_output_waits_for_its_reader() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.set_reading(id, false);
    world.send(id, json!({"cmd": "exec", "id": 1, "shell": "out 5000000"}), b"");
    world.run();
    let queued = world.peer(id).out.queue.len();
    assert!(queued < HIGH_WATER + 210_000, "{queued}");
    world.set_reading(id, true);
    let frames = world.received(id);
    let bytes: usize = frames.iter().filter(|frame| frame.kind() == "stdout").map(|frame| frame.body.len()).sum();
    assert_eq!((bytes, frames.last().unwrap().kind()), (5_000_000, "exit"));
}

#[test]
fn a_command_that_takes_no_input_stops_its_connection_within_bounds() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.call(id, json!({"cmd": "exec", "id": 1, "shell": "wait"}));
    for _ in 0..30 {
        world.send(id, json!({"cmd": "input", "id": 1}), &[b'x'; 60_000]);
    }
    world.send(id, json!({"cmd": "echo", "id": 2}), b"");
    assert_eq!(world.received(id), [], "the echo waits behind the input");
    assert!(!world.peer(id).session.wants(&world.peer(id).out).socket_read);
    let job = world.children.ids()[0];
    world.child_event(id, job, reactord::proto::exec::ChildEvent::InputTaken(2 << 20));
    assert_eq!(outline(&world.received(id)), ["echo 2"]);
}

#[test]
fn uploads_wait_for_the_disk_within_bounds() {
    let mut world = World::new(config(None));
    let id = world.connect();
    world.call(id, json!({"cmd": "put", "id": 1, "path": "f", "length": 20_000_000}));
    let body = vec![b'x'; 500_000];
    for _ in 0..40 {
        world.send(id, json!({"cmd": "data", "id": 1}), &body);
    }
    world.send(id, json!({"cmd": "end", "id": 1}), b"");
    while world.run_input() {}
    assert!(!world.peer(id).session.wants(&world.peer(id).out).socket_read);
    assert_eq!(outline(&world.received(id)), ["end 1"]);
    assert_eq!(world.disk.files["f"].len(), 20_000_000);
}

#[test]
fn for_a_slow_consumer_what_was_begun_stays_whole_and_the_error_follows() {
    for begun in [0, 1, 1_000, 100_000, 1_048_576, 1_048_700] {
        let mut world = World::new(config(None));
        let id = world.connect();
        world.set_reading(id, false);
        echoes(&mut world, id, 1, 1 << 20);
        world.run();
        for _ in 0..5 {
            let frames = super::support::frames::frame(json!({"event": "message", "room": "r"}), &[b'm'; 60_000]);
            let delivery = reactord::proto::rooms::Delivery { room: None, frames: frames.into() };
            world.feed(id, Input::Delivery(&delivery));
        }
        world.flush(id, begun);
        world.feed(id, Input::SlowConsumer);
        world.set_reading(id, true);
        let before = expect_fatal(&mut world, id, "slow_consumer");
        assert!(before.len() <= 2 && before.len() >= usize::from(begun > 0), "{begun}: {}", before.len());
        assert!(before.iter().all(|frame| frame.body.len() == 1 << 20 || frame.body.len() == 60_000));
        assert!(world.is_clean(id));
    }
}

#[test]
fn a_replay_is_paced_and_comes_before_what_is_said_meanwhile() {
    let mut world = World::new(config(None));
    let (speaker, reader) = (world.connect(), world.connect());
    world.call(speaker, json!({"cmd": "join", "room": "r"}));
    for _ in 0..50 {
        world.send(speaker, json!({"cmd": "say", "room": "r"}), &[b'm'; 60_000]);
    }
    world.run();
    world.set_reading(reader, false);
    world.send(reader, json!({"cmd": "join", "id": 1, "room": "r"}), b"");
    world.run();
    assert!(world.peer(reader).out.queue.len() < LOW_WATER + 61_000);
    for _ in 0..10 {
        world.send(speaker, json!({"cmd": "say", "room": "r"}), b"meanwhile");
    }
    world.run();
    assert!(world.peer(reader).session.held() > 0);
    world.set_reading(reader, true);
    let frames = world.received(reader);
    let seqs: Vec<_> = frames[1..].iter().map(|frame| frame.header["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=60).collect::<Vec<_>>());
    assert!(frames[1..51].iter().all(|frame| frame.header["replay"] == true && frame.id() == Some(1)));
    assert!(frames[51..].iter().all(|frame| frame.header.get("replay").is_none()));
    assert_eq!(world.peer(reader).session.held(), 0);
}
