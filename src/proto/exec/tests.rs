//! The command service on processes that do what the test says.

mod ends;

use super::*;
use crate::wire::frame::{FrameDecoder, Limits, Piece};
use crate::wire::request::Pty;
use serde_json::{Value, json};
use std::io::IoSlice;

const JOB: JobId = JobId(40);

fn argv(argv: &[&str]) -> request::Exec {
    request::Exec {
        argv: Some(argv.iter().map(|arg| arg.to_string()).collect()),
        shell: None,
        cwd: None,
        env: vec![],
        stdin: None,
        pty: None,
        timeout_ms: None,
        hangup: Hangup::Kill,
    }
}

fn on_terminal() -> request::Exec {
    request::Exec { pty: Some(Pty { rows: 24, cols: 80, term: None }), ..argv(&["sh"]) }
}

/// A service on virtual time, and what it says.
struct Bench {
    exec: Exec,
    out: Outbox,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        Bench { exec: Exec::default(), out: Outbox::default(), now: Now { instant: Instant::now(), unix_ms: 0 } }
    }

    /// A service in which `request` runs under id 7.
    fn running(request: request::Exec) -> Self {
        let mut bench = Self::new();
        bench.start(7, request, JOB);
        bench
    }

    fn start(&mut self, id: u64, request: request::Exec, job: JobId) {
        self.exec.start(id, request, &mut self.out);
        assert!(matches!(self.effects()[..], [Effect::Spawn(_)]) && self.exec.is_waiting());
        self.exec.spawned(self.now, Ok(Spawned { job, pid: 99 }), &mut self.out);
        assert_eq!(self.frames(), [json!({"re":"exec","id":id,"ok":true,"pid":99,"job":job.0})]);
    }

    fn child(&mut self, event: ChildEvent<'_>) {
        self.exec.child(self.now, JOB, event, &mut self.out);
    }

    fn end_outputs(&mut self) {
        self.child(ChildEvent::OutputEnd(Stream::Stdout));
        self.child(ChildEvent::OutputEnd(Stream::Stderr));
    }

    /// Lets time go by, as a driver does.
    fn pass(&mut self, ms: u64) {
        let end = self.now.instant + Duration::from_millis(ms);
        while let Some(due) = self.exec.poll_timeout().filter(|due| *due <= end) {
            assert!(due > self.now.instant, "a deadline that does not pass");
            self.now.instant = due;
            self.exec.handle_timeout(self.now, &mut self.out);
        }
        self.now.instant = end;
        self.exec.handle_timeout(self.now, &mut self.out);
    }

    fn effects(&mut self) -> Vec<Effect> {
        self.out.effects.drain(..).collect()
    }

    fn job_effects(&mut self) -> Vec<JobEffect> {
        let of_job = |effect| match effect {
            Effect::Job(job, effect) => {
                assert_eq!(job, JOB);
                effect
            }
            other => panic!("{other:?}"),
        };
        self.effects().into_iter().map(of_job).collect()
    }

    /// The frames said since the last time, a body as the field "body".
    fn frames(&mut self) -> Vec<Value> {
        let mut bytes = Vec::new();
        while !self.out.queue.is_empty() {
            let mut slices = [IoSlice::new(b""); 8];
            let (n, _) = self.out.queue.slices(&mut slices);
            let part = slices[..n].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
            self.out.queue.advance(part.len());
            bytes.extend(part);
        }
        let mut decoder = FrameDecoder::new(Limits::FULL);
        let (mut frames, mut input) = (Vec::<Value>::new(), &bytes[..]);
        loop {
            match decoder.next(&mut input).unwrap() {
                None => return frames,
                Some(Piece::Header(header)) => {
                    let header: Value = serde_json::from_slice(header).unwrap();
                    decoder.expect_body(header["size"].as_u64().unwrap_or(0) as usize);
                    frames.push(header);
                }
                Some(Piece::Body(body)) => {
                    let text = String::from_utf8_lossy(body).into_owned();
                    frames.last_mut().unwrap()["body"] = text.into();
                }
                Some(Piece::End) => {}
            }
        }
    }

    fn error(&mut self) -> Value {
        let frames = self.frames();
        assert_eq!((frames.len(), &frames[0]["ok"]), (1, &json!(false)), "{frames:?}");
        frames[0]["error"].clone()
    }
}

#[test]
fn what_no_command_can_be_given_is_refused() {
    let text = |text: &str| Some(text.to_owned());
    let pty = |rows, cols, term: &str| Some(Pty { rows, cols, term: text(term) });
    let env = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let ok = argv(&["x"]);
    for bad in [
        request::Exec { argv: None, ..ok.clone() },
        request::Exec { shell: text("x"), ..ok.clone() },
        argv(&[]),
        argv(&["", "x"]),
        argv(&["x", "a\0b"]),
        request::Exec { argv: None, shell: text("a\0"), ..ok.clone() },
        request::Exec { cwd: text(""), ..ok.clone() },
        request::Exec { cwd: text("/\0"), ..ok.clone() },
        request::Exec { env: env("", "x"), ..ok.clone() },
        request::Exec { env: env("A=B", "x"), ..ok.clone() },
        request::Exec { env: env("A\0", "x"), ..ok.clone() },
        request::Exec { env: env("A", "x\0"), ..ok.clone() },
        request::Exec { pty: pty(0, 80, "xterm"), ..ok.clone() },
        request::Exec { pty: pty(24, 0, "xterm"), ..ok.clone() },
        request::Exec { pty: pty(24, 80, ""), ..ok.clone() },
        request::Exec { pty: pty(24, 80, "x\0"), ..ok.clone() },
        request::Exec { timeout_ms: Some(0), ..ok.clone() },
    ] {
        let mut bench = Bench::new();
        bench.exec.start(7, bad.clone(), &mut bench.out);
        assert_eq!(bench.error(), "bad_request", "{bad:?}");
        assert!(bench.effects().is_empty() && bench.exec.is_idle());
    }
}

#[test]
fn what_is_asked_for_reaches_the_driver() {
    let mut bench = Bench::new();
    let request = request::Exec {
        cwd: Some("d".into()),
        env: vec![("A".into(), "b".into())],
        stdin: Some(false),
        ..argv(&["ls", "-l"])
    };
    bench.exec.start(7, request, &mut bench.out);
    let expected = Spawn {
        id: 7,
        program: Program::Argv(vec!["ls".into(), "-l".into()]),
        cwd: Some("d".into()),
        env: vec![("A".into(), "b".into())],
        stdin: false,
        merge: false,
        pty: None,
    };
    assert!(matches!(&bench.effects()[..], [Effect::Spawn(spawn)] if **spawn == expected));
    assert!(bench.exec.is_live(7) && !bench.exec.is_idle());
    bench.exec.spawned(bench.now, Err(Refusal::new(ErrorCode::NotFound, "gone")), &mut bench.out);
    assert_eq!(bench.error(), "not_found");
    assert!(!bench.exec.is_live(7) && bench.exec.is_idle());
}

#[test]
fn a_terminal_has_one_output() {
    let mut bench = Bench::running(on_terminal());
    bench.child(ChildEvent::OutputEnd(Stream::Stdout));
    bench.child(ChildEvent::Exited(ExitStatus::Signal(Signal::HUP)));
    assert_eq!(bench.frames(), [json!({"event":"exit","id":7,"signal":"SIGHUP"})]);
}

#[test]
fn outputs_become_events_of_bounded_length() {
    let mut bench = Bench::running(argv(&["x"]));
    bench.child(ChildEvent::Output(Stream::Stderr, b"no"));
    bench.child(ChildEvent::Output(Stream::Stdout, &[b'x'; MAX_OUTPUT + 1]));
    let frames = bench.frames();
    assert_eq!(frames[0], json!({"event":"stderr","id":7,"size":2,"body":"no"}));
    assert_eq!((&frames[1]["size"], &frames[2]["size"]), (&json!(MAX_OUTPUT), &json!(1)));
    assert_eq!(frames.len(), 3);
}

#[test]
fn input_is_passed_on_and_counted_until_it_is_taken() {
    let mut bench = Bench::running(argv(&["x"]));
    let piece = vec![1; 100_000];
    for _ in 0..11 {
        assert!(bench.exec.wants_input());
        bench.exec.input(7, &piece, &mut bench.out);
    }
    assert!(!bench.exec.wants_input());
    bench.exec.input_end(7, false, &mut bench.out);
    let effects = bench.job_effects();
    assert_eq!((effects.len(), &effects[0]), (11, &JobEffect::Write(piece.into())));
    bench.child(ChildEvent::InputTaken(51_424));
    assert!(!bench.exec.wants_input());
    bench.child(ChildEvent::InputTaken(1));
    assert!(bench.exec.wants_input());
    assert!(bench.frames().is_empty(), "an input is not answered");
}

#[test]
fn input_after_its_end_and_without_a_standard_input_is_a_conflict() {
    let mut bench = Bench::running(argv(&["x"]));
    bench.exec.input_end(7, true, &mut bench.out);
    assert_eq!(bench.job_effects(), [JobEffect::CloseInput]);
    bench.exec.input(7, b"a", &mut bench.out);
    bench.exec.input(7, b"b", &mut bench.out);
    assert!(bench.frames().is_empty(), "one answer for one request");
    bench.exec.input_end(7, false, &mut bench.out);
    assert_eq!(bench.error(), "conflict");

    let mut bench = Bench::running(request::Exec { stdin: Some(false), ..argv(&["x"]) });
    bench.exec.input_end(7, true, &mut bench.out);
    assert_eq!(bench.error(), "conflict");
    assert!(bench.effects().is_empty());
}

#[test]
fn a_terminals_end_of_file_may_come_again() {
    let mut bench = Bench::running(request::Exec { stdin: Some(false), ..on_terminal() });
    bench.exec.input_end(7, true, &mut bench.out);
    bench.exec.input(7, b"a", &mut bench.out);
    bench.exec.input_end(7, true, &mut bench.out);
    let expected = [JobEffect::CloseInput, JobEffect::Write(Bytes::from_static(b"a")), JobEffect::CloseInput];
    assert_eq!(bench.job_effects(), expected);
    assert!(bench.frames().is_empty());
}

#[test]
fn an_unknown_id_is_answered_once_for_each_request() {
    let mut bench = Bench::running(argv(&["x"]));
    bench.exec.input(9, b"a", &mut bench.out);
    bench.exec.input(9, b"b", &mut bench.out);
    bench.exec.input_end(9, true, &mut bench.out);
    assert_eq!(bench.error(), "not_found");
    bench.exec.signal(9, "INT", &mut bench.out);
    assert_eq!(bench.error(), "not_found");
    bench.exec.resize(9, 1, 1, &mut bench.out);
    assert_eq!(bench.error(), "not_found");
    // The refusal of one input is not that of the next.
    bench.exec.input(7, b"a", &mut bench.out);
    bench.exec.input_end(7, false, &mut bench.out);
    assert!(bench.frames().is_empty());
    assert_eq!(bench.job_effects(), [JobEffect::Write(Bytes::from_static(b"a"))]);
}

#[test]
fn a_command_that_ends_under_an_input_is_not_found() {
    let mut bench = Bench::running(argv(&["x"]));
    bench.exec.input(7, b"a", &mut bench.out);
    bench.child(ChildEvent::Exited(ExitStatus::Code(0)));
    bench.end_outputs();
    bench.frames();
    bench.exec.input(7, b"b", &mut bench.out);
    bench.exec.input_end(7, true, &mut bench.out);
    assert_eq!(bench.error(), "not_found");
    assert!(bench.exec.wants_input());
}

#[test]
fn signals_are_answered_and_sizes_are_not() {
    let mut bench = Bench::running(on_terminal());
    bench.exec.signal(7, "SIGINT", &mut bench.out);
    assert_eq!(bench.frames(), [json!({"re":"signal","id":7,"ok":true})]);
    bench.exec.resize(7, 50, 132, &mut bench.out);
    assert!(bench.frames().is_empty());
    let int = Signal::parse("INT").unwrap();
    assert_eq!(bench.job_effects(), [JobEffect::Signal(int), JobEffect::Resize { rows: 50, cols: 132 }]);
    bench.exec.signal(7, "NOPE", &mut bench.out);
    assert_eq!(bench.error(), "bad_request");
    bench.exec.resize(7, 0, 132, &mut bench.out);
    assert_eq!(bench.error(), "bad_request");

    let mut bench = Bench::running(argv(&["x"]));
    bench.exec.resize(7, 50, 132, &mut bench.out);
    assert_eq!(bench.error(), "conflict");
}

#[test]
fn a_connection_has_a_limit() {
    let mut bench = Bench { exec: Exec::new(1), ..Bench::running(argv(&["x"])) };
    bench.start(7, argv(&["x"]), JOB);
    bench.exec.start(8, argv(&["x"]), &mut bench.out);
    assert_eq!(bench.error(), "limit");
    assert!(bench.exec.is_live(7) && !bench.exec.is_live(8) && !bench.exec.is_waiting());
    bench.end_outputs();
    bench.child(ChildEvent::Exited(ExitStatus::Code(0)));
    bench.frames();
    bench.effects();
    bench.start(8, argv(&["x"]), JobId(41));
}
