//! Chat over real connections: one order for all, names, presence, replays,
//! slow readers, and a history that outlives the server.

mod common;

use common::{Client, Options, Server, wait_for};
use serde_json::{Value, json};
use std::io::{Read, Write};

/// Joins without a replay and returns the answer.
fn join(client: &mut Client, room: &str) -> Value {
    let answer = client.call(json!({"cmd": "join", "room": room, "history": 0}));
    assert_eq!(answer["ok"], true, "{answer}");
    answer
}

/// The next message of a room, past whatever else comes.
fn next_message(client: &mut Client) -> (u64, String, String) {
    let (_, (header, body)) = client.receive_until(|header| header["event"] == "message");
    let from = header["from"].as_str().unwrap().to_owned();
    (header["seq"].as_u64().unwrap(), from, String::from_utf8(body).unwrap())
}

#[test]
fn six_writers_are_heard_in_one_order_without_loss() {
    const EACH: usize = 200;
    let server = Server::start();
    let mut observers: Vec<Client> = ["one", "two"].map(|nick| server.client(nick)).into();
    observers.iter_mut().for_each(|client| drop(join(client, "r")));
    let writers: Vec<_> = (0..6)
        .map(|w| {
            let mut client = server.client(&format!("w{w}"));
            join(&mut client, "r");
            std::thread::spawn(move || {
                for n in 0..EACH {
                    client.send(json!({"cmd": "say", "room": "r", "id": n}), format!("{w}:{n}").as_bytes());
                }
                let mut acknowledged = Vec::new();
                while acknowledged.len() < EACH {
                    let (header, _) = client.receive();
                    if header["re"] == "say" {
                        acknowledged.push(header["seq"].as_u64().unwrap());
                    }
                }
                acknowledged
            })
        })
        .collect();
    let heard: Vec<Vec<_>> =
        observers.iter_mut().map(|client| (0..6 * EACH).map(|_| next_message(client)).collect()).collect();
    assert_eq!(heard[0], heard[1]);
    let numbers: Vec<u64> = heard[0].iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(numbers, (1..=6 * EACH as u64).collect::<Vec<_>>());
    for (w, writer) in writers.into_iter().enumerate() {
        let acknowledged = writer.join().unwrap();
        let mine: Vec<_> = heard[0].iter().filter(|(_, from, _)| *from == format!("w{w}")).collect();
        for (n, (seq, _, text)) in mine.iter().enumerate() {
            assert_eq!((acknowledged[n], format!("{w}:{n}")), (*seq, text.clone()));
        }
    }
}

#[test]
fn presence_is_told_once_to_those_who_share_a_room() {
    let server = Server::start();
    let mut anna = server.client("anna");
    join(&mut anna, "a");
    join(&mut anna, "b");
    let mut ben = server.client("ben");
    let answer = ben.call(json!({"cmd": "join", "room": "a", "id": 7}));
    assert_eq!((&answer["seq"], &answer["count"]), (&json!(0), &json!(0)));
    join(&mut ben, "b");
    join(&mut ben, "b");
    for room in ["a", "b"] {
        assert_eq!(anna.receive().0, json!({"event": "joined", "room": room, "nick": "ben"}));
    }
    assert_eq!(ben.call(json!({"cmd": "nick", "nick": "bob"}))["ok"], true);
    assert_eq!(anna.receive().0, json!({"event": "renamed", "old": "ben", "new": "bob"}));
    assert_eq!(ben.call(json!({"cmd": "leave", "room": "a"}))["ok"], true);
    assert_eq!(anna.receive().0, json!({"event": "left", "room": "a", "nick": "bob", "reason": "left"}));
    drop(ben);
    assert_eq!(anna.receive().0, json!({"event": "left", "room": "b", "nick": "bob", "reason": "disconnected"}));
    // The nick is free again.
    server.client("BEN").ping();
    anna.ping();
}

#[test]
fn a_tell_reaches_one_and_a_stranger_to_the_room_is_not_heard() {
    let server = Server::start();
    let (mut anna, mut ben, mut carl) = (server.client("anna"), server.client("ben"), server.client("carl"));
    join(&mut anna, "r");
    anna.send(json!({"cmd": "tell", "to": "BEN", "id": 1}), "grüß dich".as_bytes());
    assert_eq!(anna.receive().0, json!({"re": "tell", "id": 1, "ok": true}));
    let (header, body) = ben.receive();
    assert_eq!((&header["event"], &header["from"]), (&json!("tell"), &json!("anna")));
    assert_eq!(body, "grüß dich".as_bytes());
    carl.send(json!({"cmd": "say", "room": "r"}), b"hello?");
    assert_eq!(carl.receive().0["error"], "forbidden");
    carl.send(json!({"cmd": "tell", "to": "nobody"}), b"x");
    assert_eq!(carl.receive().0["error"], "not_found");
    carl.send(json!({"cmd": "say", "room": "r", "id": 2}), &vec![b'x'; 65_537]);
    assert_eq!(carl.receive().0["error"], "too_large");
    join(&mut carl, "r");
    carl.send(json!({"cmd": "say", "room": "r", "id": 3}), b"\xff\xfe");
    assert_eq!(carl.receive().0["error"], "bad_request");
    carl.ping();
}

#[test]
fn a_room_lives_on_over_a_restart_and_over_a_kill() {
    let server = Server::start();
    let mut anna = server.client("anna");
    let epoch = join(&mut anna, "r")["epoch"].clone();
    for n in 1..=20 {
        anna.send(json!({"cmd": "say", "room": "r", "id": n}), format!("text {n}").as_bytes());
        assert_eq!(anna.receive().0["seq"], n);
    }
    let server = Options::new().home(server.stop()).start();
    let mut anna = server.client("anna");
    let answer = anna.call(json!({"cmd": "join", "room": "r", "id": 1, "after": 15}));
    assert_eq!((&answer["seq"], &answer["epoch"], &answer["count"]), (&json!(20), &epoch, &json!(5)));
    for n in 16..=20 {
        let (header, body) = anna.receive();
        assert_eq!((&header["seq"], &header["replay"], &header["id"]), (&json!(n), &json!(true), &json!(1)));
        assert_eq!(body, format!("text {n}").as_bytes());
    }
    anna.send(json!({"cmd": "say", "room": "r", "id": 2}), b"text 21");
    assert_eq!(anna.receive().0["seq"], 21);
    // Long enough for the store to have written it: from then on nothing loses it.
    let history = server.home.path().join(".local/state/reactord/history.redb");
    let modified = || std::fs::metadata(&history).unwrap().modified().unwrap();
    let before = modified();
    wait_for("the history to be written", || {
        (modified() > before || modified().elapsed().is_ok_and(|age| age.as_millis() > 300)).then_some(())
    });
    let server = Options::new().home(server.kill()).start();
    let mut anna = server.client("anna");
    let answer = anna.call(json!({"cmd": "join", "room": "r", "history": 1000}));
    let count = answer["count"].as_u64().unwrap();
    assert!(count == 21 || count == 20, "{answer}");
    let heard: Vec<_> = (0..count).map(|_| next_message(&mut anna).0).collect();
    assert_eq!(heard, (1..=count).collect::<Vec<_>>());
    assert!(answer["seq"].as_u64().unwrap() >= count);
}

#[test]
fn pages_of_history_have_exclusive_bounds() {
    let server = Server::start();
    let mut anna = server.client("anna");
    join(&mut anna, "r");
    for n in 1..=10 {
        anna.send(json!({"cmd": "say", "room": "r"}), format!("{n}").as_bytes());
    }
    let mut ben = server.client("ben");
    wait_for("the last message", || {
        (ben.call(json!({"cmd": "history", "room": "r", "limit": 1, "before": 11}))["count"] == 1).then_some(())
    });
    assert_eq!(next_message(&mut ben).0, 10);
    for (bounds, expected) in [
        (json!({"after": 7}), vec![8, 9, 10]),
        (json!({"before": 4}), vec![1, 2, 3]),
        (json!({"before": 8, "limit": 2}), vec![6, 7]),
        (json!({"after": 2, "limit": 3}), vec![3, 4, 5]),
        (json!({"after": 2, "before": 5}), vec![3, 4]),
        (json!({"after": 10}), vec![]),
    ] {
        let mut request = json!({"cmd": "history", "room": "r", "id": 5});
        request.as_object_mut().unwrap().extend(bounds.as_object().unwrap().clone());
        assert_eq!(ben.call(request)["count"], expected.len(), "{bounds}");
        let got: Vec<u64> = expected.iter().map(|_| next_message(&mut ben).0).collect();
        assert_eq!(got, expected, "{bounds}");
    }
}

#[test]
fn stalled_members_are_cut_and_the_others_notice_nothing() {
    const STALLED: usize = 20;
    let server = Options::new().args(&["--output-limit", "4000000"]).start();
    let mut publisher = server.client("publisher");
    join(&mut publisher, "r");
    let stalled: Vec<Client> = (0..STALLED)
        .map(|i| {
            let mut client = server.client(&format!("stalled-{i}"));
            join(&mut client, "r");
            client
        })
        .collect();
    let mut reader = server.client("reader");
    join(&mut reader, "r");
    let before = server.memory();
    let text = vec![b'x'; 64 << 10];
    for n in 0..480u64 {
        publisher.send(json!({"cmd": "say", "room": "r", "id": n}), &text);
        publisher.receive_until(|header| header["re"] == "say");
        next_message(&mut reader);
    }
    wait_for("the stalled members to be cut", || {
        (server.stats()["slow_consumers"].as_u64().unwrap() >= STALLED as u64 - 1).then_some(())
    });
    // What is queued twenty times is kept once.
    assert!(server.memory() < before + (96 << 20), "{} -> {}", before, server.memory());
    publisher.ping();
    // Whoever wakes up finds whole frames, and last the reason.
    let mut client = stalled.into_iter().next().unwrap();
    let mut last = None;
    while let Some((header, _)) = client.try_receive() {
        last = Some(header);
    }
    assert_eq!(last.unwrap()["error"], "slow_consumer");
}

#[test]
fn a_flood_is_refused_message_by_message() {
    let server = Options::new().args(&["--message-rate", "10"]).start();
    let mut client = server.client("loop");
    join(&mut client, "r");
    let mut refused = 0;
    for n in 0..300 {
        client.send(json!({"cmd": "say", "room": "r", "id": n}), b"again");
        let answer = client.receive().0;
        if answer["ok"] == false {
            assert_eq!(answer["error"], "limit");
            refused += 1;
        }
    }
    assert!((50..=100).contains(&refused), "{refused} of 300 refused, where 200 may come at once");
    client.ping();
}

#[test]
fn a_replay_is_paced_to_its_reader() {
    let server = Server::start();
    let mut anna = server.client("anna");
    join(&mut anna, "r");
    let text = vec![b'y'; 60_000];
    for n in 0..100u64 {
        anna.send(json!({"cmd": "say", "room": "r", "id": n}), &text);
        anna.receive();
    }
    let mut late = server.client("late");
    late.send(json!({"cmd": "join", "room": "r", "history": 1000}), b"");
    let queued = server.stats()["queued_bytes"].as_u64().unwrap();
    assert!(queued < 1 << 20, "{queued} bytes are queued for a reader that has not begun");
    // What is said meanwhile comes behind the replay.
    anna.send(json!({"cmd": "say", "room": "r", "id": 100}), b"live");
    let numbers: Vec<u64> =
        std::iter::repeat_with(|| next_message(&mut late).0).take_while(|seq| *seq != 101).collect();
    let first = numbers[0];
    assert_eq!(numbers, (first..=100).collect::<Vec<_>>());
}

#[test]
fn bytes_that_are_no_frames_do_not_reach_a_room() {
    let server = Server::start();
    let mut anna = server.client("anna");
    join(&mut anna, "r");
    let mut bad = server.client("bad");
    join(&mut bad, "r");
    anna.receive();
    bad.stream.write_all(&[0xff; 64]).unwrap();
    assert_eq!(anna.receive().0["event"], "left");
    let mut rest = Vec::new();
    bad.stream.read_to_end(&mut rest).unwrap();
}
