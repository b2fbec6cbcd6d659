//! The frame on a real connection: any split, any coalescing, and every way to
//! get it wrong.

mod common;

use common::{Client, Options, PATIENCE, Server, frame, noise, raw_frame, wait_for};
use serde_json::json;
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn five_hundred_requests_in_one_send_are_answered_in_order() {
    let server = Server::start();
    let mut client = server.client("a");
    let requests: Vec<u8> =
        (0..500).flat_map(|id| frame(json!({"cmd": "echo", "id": id, "size": 3}), b"abc")).collect();
    client.send_raw(&requests);
    for id in 0..500 {
        let (header, body) = client.receive();
        assert_eq!(header, json!({"re": "echo", "id": id, "ok": true, "size": 3}));
        assert_eq!(body, b"abc");
    }
}

#[test]
fn a_request_sent_a_byte_at_a_time_is_answered() {
    let server = Server::start();
    let mut client = server.client("a");
    for byte in frame(json!({"cmd": "echo", "id": 1, "size": 5}), b"hello") {
        client.send_raw(&[byte]);
    }
    assert_eq!(client.receive().1, b"hello");
}

#[test]
fn what_comes_behind_urgent_data_needs_no_second_edge() {
    let server = Server::start();
    let mut client = server.client("a");
    // All of it is there when the server reads, and a read ends at the mark.
    server.signal("STOP");
    client.send(json!({"cmd": "echo", "id": 1}), b"before");
    socket2::SockRef::from(&client.stream).send_out_of_band(b"!").unwrap();
    client.send(json!({"cmd": "echo", "id": 2}), b"behind");
    server.signal("CONT");
    assert_eq!((client.receive().1, client.receive().1), (b"before".to_vec(), b"behind".to_vec()));
}

#[test]
fn a_megabyte_in_one_send_needs_no_second_edge() {
    let server = Server::start();
    let mut client = server.client("a");
    let body = noise(1 << 20, 1);
    client.send(json!({"cmd": "echo", "id": 1}), &body);
    assert!(client.receive().1 == body);
}

#[test]
fn every_answer_arrives_after_the_client_ended_its_sending_side() {
    let server = Server::start();
    let mut client = server.client("a");
    let body = noise(1 << 20, 2);
    let sent = body.clone();
    let mut stream = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for id in 0..20 {
            stream.write_all(&frame(json!({"cmd": "echo", "id": id, "size": sent.len()}), &sent)).unwrap();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    });
    for id in 0..20 {
        let (header, got) = client.receive();
        assert_eq!(header["id"], id);
        assert!(got == body, "answer {id} differs");
    }
    assert!(client.try_receive().is_none());
    writer.join().unwrap();
}

#[test]
fn what_is_no_frame_gets_an_error_and_a_clean_end() {
    let server = Server::start();
    let mut neighbour = server.client("neighbour");
    let cases: Vec<Vec<u8>> = vec![
        (-1i32).to_le_bytes().to_vec(),
        0i32.to_le_bytes().to_vec(),
        i32::MAX.to_le_bytes().to_vec(),
        70_000i32.to_le_bytes().to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        raw_frame(b"{\"cmd\":", b""),
        raw_frame(b"[1]", b""),
        raw_frame(&[b'['; 60_000], b""),
        raw_frame(b"{\"cmd\":\"\xff\xfe\"}", b""),
        raw_frame(br#"{"cmd":"echo","size":-1}"#, b""),
        raw_frame(br#"{"cmd":"echo","size":1048577}"#, b""),
        raw_frame(br#"{"cmd":"echo","size":1.0}"#, b"x"),
        raw_frame(br#"{"cmd":"echo","size":1,"size":1}"#, b"x"),
    ];
    for (i, bytes) in cases.iter().enumerate() {
        let mut client = server.client(&format!("bad-{i}"));
        // An answer that is complete goes out before the error.
        client.send_raw(&[frame(json!({"cmd": "echo", "id": 5}), b""), bytes.clone(), noise(100_000, 3)].concat());
        assert_eq!(client.receive().0["id"], 5);
        let message = client.expect_fatal("bad_frame");
        assert!(message.contains("expected") || message.contains("JSON"), "{message}");
        neighbour.ping();
    }
    assert!(server.memory() < 64 << 20);
}

#[test]
fn a_failed_connection_whose_client_stays_is_closed_and_hurts_nobody() {
    let server = Server::start();
    let mut neighbour = server.client("neighbour");
    let mut failed = server.stranger();
    failed.send_raw(b"GET / HTTP/1.1\r\n");
    failed.expect_fatal("bad_frame");
    // It was told, and does not close: the server does, when the time for draining is over.
    wait_for("the server to close the connection", || failed.stream.write_all(b"x").err());
    neighbour.ping();
}

#[test]
fn a_header_longer_than_allowed_before_the_greeting_is_refused() {
    let server = Server::start();
    let mut client = server.stranger();
    client.send_raw(&4_097i32.to_le_bytes());
    client.expect_fatal("bad_frame");
}

#[test]
fn an_end_of_input_inside_a_frame_loses_no_earlier_answer() {
    let server = Server::start();
    let mut client = server.client("a");
    let whole = frame(json!({"cmd": "echo", "id": 1}), b"");
    client.send_raw(&[&whole[..], &whole[..whole.len() - 3]].concat());
    client.finish();
    assert_eq!(client.receive().0["id"], 1);
    assert!(client.try_receive().is_none());
}

#[test]
fn one_who_never_reads_costs_a_few_megabytes_and_nobody_else_anything() {
    let server = Server::start();
    let mut neighbour = server.client("neighbour");
    neighbour.ping();
    let before = server.memory();
    let greedy = server.client("greedy");
    greedy.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let request = frame(json!({"cmd": "echo", "id": 1, "size": 1 << 20}), &noise(1 << 20, 4));
    let mut stream = &greedy.stream;
    let mut sent = 0;
    while sent < 400 << 20 {
        match stream.write(&request[sent % request.len()..]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(e) => panic!("after {sent} bytes: {e}"),
        }
    }
    assert!(sent < 400 << 20, "the server read everything");
    assert!(server.memory() < before + (8 << 20), "{} -> {}", before, server.memory());
    neighbour.ping();
}

#[test]
fn a_flood_does_not_starve_the_others() {
    let server = Server::start();
    let flooder = server.client("flooder");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let mut reader = flooder.stream.try_clone().unwrap();
    let drain = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while reader.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    let mut writer = flooder.stream.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        let batch = frame(json!({"cmd": "echo", "id": 1, "size": 1}), b"x").repeat(2_000);
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            writer.write_all(&batch).unwrap();
        }
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut clients: Vec<Client> = (0..100).map(|i| server.client(&format!("p{i}"))).collect();
    for _ in 0..5 {
        clients.iter_mut().for_each(Client::ping);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flood.join().unwrap();
    drain.join().unwrap();
}

#[test]
fn a_silent_stranger_is_told_and_ended_after_ten_seconds() {
    let server = Options::new().start();
    let mut silent = server.stranger();
    let mut dripping = server.stranger();
    dripping.send_raw(&[40]);
    let began = std::time::Instant::now();
    silent.expect_fatal("timeout");
    dripping.expect_fatal("timeout");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(9) && took < PATIENCE, "{took:?}");
}
