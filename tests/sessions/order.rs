//! The order of answers, the ids they carry, and which ids are free.

use super::support::frames::frame;
use super::support::world::{World, config};
use super::{expect_fatal, headers, outline};
use serde_json::json;

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let mut world = World::new(config(None));
    world.disk.put("f", vec![7; 100]);
    let id = world.connect();
    world.send(id, json!({"cmd": "join", "id": 1, "room": "r"}), b"");
    let requests: Vec<u8> = [
        frame(json!({"cmd": "stat", "id": 2, "path": "f"}), b""),
        frame(json!({"cmd": "echo", "id": 3}), b"x"),
        frame(json!({"cmd": "say", "id": 4, "room": "r"}), b"x"),
        frame(json!({"cmd": "exec", "id": 5, "shell": "out 1"}), b""),
        frame(json!({"cmd": "get", "id": 6, "path": "f"}), b""),
        frame(json!({"cmd": "stat", "id": 7, "path": "none"}), b""),
        frame(json!({"cmd": "jobs", "id": 8}), b""),
        frame(json!({"cmd": "stats", "id": 9}), b""),
        frame(json!({"cmd": "echo", "id": 10}), b""),
    ]
    .concat();
    world.send_pieces(id, [&requests[..]]);
    let frames = world.received(id);
    let answers: Vec<_> = frames.iter().filter(|frame| !frame.is_event()).cloned().collect();
    assert_eq!(
        outline(&answers),
        ["join 1", "stat 2", "echo 3", "say 4", "exec 5", "get 6", "stat 7 not_found", "jobs 8", "stats 9", "echo 10"]
    );
    let events: Vec<_> = frames.iter().filter(|frame| frame.is_event()).cloned().collect();
    let of = |id| events.iter().filter(move |frame| frame.id() == Some(id)).cloned().collect::<Vec<_>>();
    assert_eq!(outline(&of(5)), ["stdout 5", "exit 5"]);
    assert_eq!(outline(&of(6)), ["data 6", "end 6"]);
}

#[test]
fn an_answer_carries_the_id_of_its_request_and_only_that() {
    let mut world = World::new(config(None));
    let id = world.connect();
    let largest = (1u64 << 53) - 1;
    for given in [json!(0), json!(largest)] {
        let answer = world.call(id, json!({"cmd": "echo", "id": given}));
        assert_eq!(answer.header["id"], given);
    }
    assert_eq!(world.call(id, json!({"cmd": "echo"})).header, json!({"re": "echo", "ok": true, "size": 0}));
    for bad in [json!(-1), json!(1.0), json!(null), json!("1"), json!(largest + 1), json!([1])] {
        let answer = world.call(id, json!({"cmd": "echo", "id": bad}));
        assert_eq!((answer.id(), answer.kind(), answer.error()), (None, "echo", Some("bad_request")), "{bad}");
    }
    let answer = world.call(id, json!({"cmd": 5, "id": 9}));
    assert_eq!((&answer.header["re"], answer.id(), answer.error()), (&json!(null), Some(9), Some("bad_request")));
    for cmd in ["exec", "get", "put", "data", "end", "cancel", "hash", "input", "signal", "resize"] {
        let request =
            json!({"cmd": cmd, "shell": "out 1", "path": "p", "length": 0, "signal": "INT", "rows": 1, "cols": 1});
        let answer = world.call(id, request);
        assert_eq!((answer.kind(), answer.error()), (cmd, Some("bad_request")));
    }
}

#[test]
fn say_and_tell_are_answered_where_they_carry_an_id_or_fail() {
    let mut world = World::new(config(None));
    let (a, b) = (world.connect(), world.connect());
    for (id, nick) in [(a, "a"), (b, "b")] {
        world.call(id, json!({"cmd": "hello", "version": 1, "nick": nick}));
        world.call(id, json!({"cmd": "join", "room": "r"}));
    }
    world.received(a);
    world.send(a, json!({"cmd": "say", "room": "r"}), b"one");
    world.send(a, json!({"cmd": "tell", "to": "B"}), b"two");
    world.send(a, json!({"cmd": "say", "room": "r", "id": 1}), b"three");
    world.send(a, json!({"cmd": "tell", "to": "b", "id": 2}), b"four");
    world.send(a, json!({"cmd": "tell", "to": "nobody"}), b"five");
    assert_eq!(outline(&world.received(a)), ["say 1", "tell 2", "tell not_found"]);
    let heard = world.received(b);
    assert_eq!(outline(&heard), ["message", "tell", "message", "tell"]);
    assert_eq!(heard.iter().map(|frame| &frame.body[..]).collect::<Vec<_>>(), [&b"one"[..], b"two", b"three", b"four"]);
    assert_eq!((&heard[0].header["seq"], &heard[2].header["seq"]), (&json!(1), &json!(2)));
}

#[test]
fn the_answer_to_a_say_comes_before_the_next_message() {
    let mut world = World::new(config(None));
    let (a, b) = (world.connect(), world.connect());
    world.call(a, json!({"cmd": "join", "room": "r"}));
    world.call(b, json!({"cmd": "join", "room": "r"}));
    world.received(a);
    for round in 0..3u64 {
        world.send(a, json!({"cmd": "say", "room": "r", "id": round}), b"from a");
        world.send(b, json!({"cmd": "say", "room": "r", "id": round}), b"from b");
    }
    let seqs = |frames: &[super::Frame]| frames.iter().map(|f| f.header["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    for id in [a, b] {
        let frames = world.received(id);
        assert_eq!(seqs(&frames), [1, 2, 3, 4, 5, 6], "{:?}", headers(&frames));
    }
}

#[test]
fn a_live_id_used_again_is_the_end() {
    let opened =
        [json!({"cmd": "exec", "id": 1, "shell": "wait"}), json!({"cmd": "put", "id": 1, "path": "new", "length": 5})];
    let again = [
        json!({"cmd": "echo", "id": 1}),
        json!({"cmd": "exec", "id": 1, "shell": "out 1"}),
        json!({"cmd": "put", "id": 1, "path": "other", "length": 5}),
        json!({"cmd": "get", "id": 1, "path": "f"}),
        json!({"cmd": "hash", "id": 1, "path": "f"}),
    ];
    for open in &opened {
        for again in &again {
            let mut world = World::new(config(None));
            let id = world.connect();
            assert_eq!(world.call(id, open.clone()).header["ok"], true);
            world.send(id, json!({"cmd": "echo", "id": 2}), b"");
            world.send(id, again.clone(), b"");
            let before = expect_fatal(&mut world, id, "conflict");
            assert_eq!(outline(&before), ["echo 2"], "{open} {again}");
            assert_eq!((world.children.len(), world.disk.open_files()), (0, 0), "all of it was let go");
        }
    }
}

#[test]
fn a_download_and_a_hash_hold_their_ids_too() {
    for open in [json!({"cmd": "get", "id": 1, "path": "f"}), json!({"cmd": "hash", "id": 1, "path": "f"})] {
        let mut world = World::new(config(None));
        world.disk.put("f", vec![1; 3 << 20]);
        let id = world.connect();
        world.set_reading(id, false);
        world.send(id, open, b"");
        world.send(id, json!({"cmd": "echo", "id": 1}), b"");
        while world.run_input() {}
        world.run_disk();
        while world.run_input() {}
        world.set_reading(id, true);
        let before = expect_fatal(&mut world, id, "conflict");
        assert!(before.iter().all(|frame| frame.kind() != "echo" && frame.kind() != "hash"));
    }
}

#[test]
fn an_id_is_free_again_after_the_last_frame() {
    let mut world = World::new(config(None));
    world.disk.put("f", vec![1; 10]);
    let id = world.connect();
    for (request, last) in [
        (json!({"cmd": "exec", "id": 1, "shell": "exit 1"}), "exit 1"),
        (json!({"cmd": "get", "id": 1, "path": "f"}), "end 1"),
        (json!({"cmd": "hash", "id": 1, "path": "f"}), "hash 1"),
        (json!({"cmd": "exec", "id": 1, "argv": ["no such program"]}), "exec 1 not_found"),
        (json!({"cmd": "get", "id": 1, "path": "none"}), "get 1 not_found"),
        (json!({"cmd": "put", "id": 1, "path": "f", "length": 0}), "put 1 exists"),
        (json!({"cmd": "put", "id": 1, "path": "/", "length": 0}), "put 1 invalid_path"),
        (json!({"cmd": "echo", "id": 1}), "echo 1"),
    ] {
        world.send(id, request, b"");
        assert_eq!(outline(&world.received(id)).last().unwrap(), last);
    }
}

#[test]
fn a_failed_upload_drops_its_data_and_repeats_its_error_at_the_end() {
    let mut world = World::new(config(None));
    world.disk.put("f", vec![1; 10]);
    let id = world.connect();
    for (header, body) in [
        (json!({"cmd": "put", "id": 1, "path": "f", "length": 4}), &b""[..]),
        (json!({"cmd": "data", "id": 1}), b"da"),
        (json!({"cmd": "data", "id": 1}), b"ta"),
        (json!({"cmd": "end", "id": 1}), b""),
        (json!({"cmd": "end", "id": 1}), b""),
        (json!({"cmd": "put", "id": 2, "path": "g", "length": 1}), b""),
        (json!({"cmd": "data", "id": 2}), b"too much"),
        (json!({"cmd": "data", "id": 2}), b"more"),
        (json!({"cmd": "cancel", "id": 2}), b""),
        (json!({"cmd": "data", "id": 2}), b"never opened now"),
    ] {
        world.send(id, header, body);
    }
    let expected = [
        "put 1 exists",
        "end 1 exists",
        "end 1 not_found",
        "put 2",
        "data 2 too_large",
        "cancel 2",
        "data 2 not_found",
    ];
    assert_eq!(outline(&world.received(id)), expected);
    assert_eq!(world.disk.open_files(), 0);
}

#[test]
fn cancel_ends_each_kind_of_transfer() {
    let mut world = World::new(config(None));
    world.disk.put("f", vec![1; 3 << 20]);
    let id = world.connect();
    world.send(id, json!({"cmd": "put", "id": 1, "path": "g", "length": 4}), b"");
    world.send(id, json!({"cmd": "cancel", "id": 1}), b"");
    world.send(id, json!({"cmd": "hash", "id": 2, "path": "f"}), b"");
    world.send(id, json!({"cmd": "cancel", "id": 2}), b"");
    world.send(id, json!({"cmd": "get", "id": 3, "path": "f"}), b"");
    world.send(id, json!({"cmd": "cancel", "id": 3}), b"");
    world.send(id, json!({"cmd": "cancel", "id": 4}), b"");
    let frames = world.received(id);
    let outline: Vec<_> = outline(&frames).into_iter().filter(|line| line != "data 3").collect();
    assert_eq!(
        outline,
        [
            "put 1",
            "cancel 1",
            "cancel 2",
            "hash 2 cancelled",
            "get 3",
            "cancel 3",
            "end 3 cancelled",
            "cancel 4 not_found"
        ]
    );
    let sent: usize = frames.iter().filter(|frame| frame.kind() == "data").map(|frame| frame.body.len()).sum();
    assert_eq!(frames.iter().find(|f| f.kind() == "end").unwrap().header["length"], sent);
    assert_eq!(world.call(id, json!({"cmd": "echo", "id": 3})).id(), Some(3));
    assert_eq!((world.disk.open_files(), world.disk.files.contains_key("g")), (0, false));
}
