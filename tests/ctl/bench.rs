//! The load generator against a server that answers wrongly.

use crate::fake::{Fake, Peer};
use serde_json::json;

/// One echo that is answered as `answer` does.
fn echo(answer: impl FnOnce(&mut Peer) + Send + 'static) -> String {
    let ran = Fake::serve(answer).run(&["bench", "echo", "--connections", "1", "--requests", "1"]);
    assert_eq!(ran.code(), Some(1), "{}", ran.stderr);
    assert_eq!(ran.text(), "");
    ran.stderr
}

#[test]
fn one_wrong_byte_is_a_failure() {
    let said = echo(|peer| {
        let (request, mut body) = peer.expect("echo");
        body[40] ^= 1;
        peer.answer(&request, json!({}), &body);
    });
    assert!(said.contains("other bytes"), "{said}");
}

#[test]
fn another_requests_answer_is_a_failure() {
    let said = echo(|peer| {
        let (mut request, body) = peer.expect("echo");
        request["id"] = 77.into();
        peer.answer(&request, json!({}), &body);
    });
    assert!(said.contains("where echo 0 of connection 0 was due"), "{said}");
}

#[test]
fn a_refusal_is_a_failure() {
    let said = echo(|peer| {
        let (request, _) = peer.expect("echo");
        peer.refuse(&request, "busy", "come \u{1b}[2Jback");
    });
    assert!(said.contains("come [2Jback (busy)"), "{said}");
}

#[test]
fn an_answer_with_its_fields_in_another_order_is_right() {
    let fake = Fake::serve(|peer| {
        let (request, body) = peer.expect("echo");
        peer.send(json!({"size": body.len(), "ok": true, "later": [1], "id": request["id"], "re": "echo"}), &body);
    });
    let ran = fake.run(&["bench", "echo", "--connections", "1", "--requests", "1"]);
    assert_eq!(ran.code(), Some(0), "{}", ran.stderr);
}

#[test]
fn a_message_out_of_order_is_a_failure() {
    let fake = Fake::raw(|listener| {
        let mut subscriber = Peer::accept_greeted(listener);
        let (join, _) = subscriber.expect("join");
        subscriber.answer(&join, json!({"seq": 0, "count": 0}), b"");
        let mut publisher = Peer::accept_greeted(listener);
        let (join, _) = publisher.expect("join");
        publisher.answer(&join, json!({"seq": 0, "count": 0}), b"");
        let mut say =
            |seq: u64, body: &[u8]| subscriber.send(json!({"event": "message", "room": "r", "seq": seq}), body);
        say(1, &publisher.expect("say").1);
        let messages: Vec<_> = (0..2).map(|_| publisher.expect("say").1).collect();
        say(3, &messages[1]);
        // The lines stay open until the client has had its say.
        assert_eq!(subscriber.read(), None);
    });
    let ran = fake.run(&["bench", "fanout", "--subscribers", "1", "--messages", "2"]);
    assert_eq!(ran.code(), Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("got message 3 where 2 was due"), "{}", ran.stderr);
}
