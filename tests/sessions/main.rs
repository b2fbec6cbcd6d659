//! Sessions without sockets: what the protocol promises, whatever way the
//! bytes come.

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod chunking;
mod ends;
mod greeting;
mod order;
mod pressure;
mod starts;

use reactord::proto::ConnId;
use serde_json::Value;
use support::frames::Frame;
use support::world::World;

/// The last of what a connection got: this error, and nothing behind it.
fn expect_fatal(world: &mut World, id: ConnId, code: &str) -> Vec<Frame> {
    let mut frames = world.received(id);
    let last = frames.pop().expect("last words");
    assert_eq!((last.kind(), last.error()), ("error", Some(code)), "{}", last.header);
    assert!(world.peer(id).session.has_failed());
    frames
}

fn headers(frames: &[Frame]) -> Vec<&Value> {
    frames.iter().map(|frame| &frame.header).collect()
}

/// What each frame is, with its id: `echo 1`, `stdout 2`, `stat 3 not_found`.
fn outline(frames: &[Frame]) -> Vec<String> {
    let outline = |frame: &Frame| {
        let id = frame.id().map_or(String::new(), |id| format!(" {id}"));
        let error = frame.error().map_or(String::new(), |error| format!(" {error}"));
        format!("{}{id}{error}", frame.kind())
    };
    frames.iter().map(outline).collect()
}
