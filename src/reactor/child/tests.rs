//! Commands driven by a loop with nothing but them: here what comes from them
//! and goes to them.

mod ends;
mod starts;

use super::*;
use crate::proto::exec::Stream;
use crate::proto::exec::{ExitStatus, Program};
use crate::reactor::sources::Source;
use crate::wire::error::ErrorCode;
use crate::wire::request::Pty;
use bytes::Bytes;
use mio::{Events, Poll, Waker};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ME: ConnId = ConnId(1);

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one command did.
#[derive(Debug, Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended: [bool; 2],
    exited: Option<ExitStatus>,
    taken: usize,
    unread: bool,
}

impl Seen {
    fn is_over(&self, pty: bool) -> bool {
        self.exited.is_some() && self.ended[0] && (pty || self.ended[1])
    }
}

#[derive(Debug)]
struct Recorder {
    seen: HashMap<JobId, Seen>,
    willing: bool,
    discard: bool,
}

impl ChildSink for Recorder {
    fn wants_output(&mut self, _: ConnId) -> bool {
        self.willing
    }

    fn event(&mut self, conn: ConnId, job: JobId, event: ChildEvent<'_>) {
        assert_eq!(conn, ME);
        let seen = self.seen.entry(job).or_default();
        match event {
            ChildEvent::Output(stream, bytes) => {
                assert!(!bytes.is_empty() && bytes.len() <= MAX_OUTPUT && !seen.ended[stream as usize]);
                let kept = if stream == Stream::Stdout { &mut seen.stdout } else { &mut seen.stderr };
                if self.discard {
                    kept.clear();
                }
                kept.extend_from_slice(bytes);
            }
            ChildEvent::OutputEnd(stream) => assert!(!std::mem::replace(&mut seen.ended[stream as usize], true)),
            ChildEvent::InputTaken(n) => seen.taken += n,
            ChildEvent::Exited(status) => assert_eq!(seen.exited.replace(status), None),
            ChildEvent::Unread(unread) => assert_ne!(std::mem::replace(&mut seen.unread, unread), unread),
        }
    }
}

/// A loop with nothing but children.
struct Loop {
    poll: Poll,
    events: Events,
    children: Children,
    sink: Recorder,
    /// How often the loop woke up.
    turns: usize,
}

impl Loop {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let waker = Waker::new(&registry, Source::Waker.token()).unwrap();
        Loop {
            poll,
            events: Events::with_capacity(64),
            children: Children::new(registry, 1_000, Warden::off(), move || waker.wake().unwrap()).unwrap(),
            sink: Recorder { seen: HashMap::new(), willing: true, discard: false },
            turns: 0,
        }
    }

    fn now() -> Now {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        Now { instant: Instant::now(), unix_ms }
    }

    fn spawn(&mut self, spec: Spawn) -> Spawned {
        self.start(spec).unwrap();
        self.started().unwrap()
    }

    fn start(&mut self, spec: Spawn) -> Result<(), Refusal> {
        self.children.start(ME, "ann", "test", spec)
    }

    /// Waits for what came of the next start.
    fn started(&mut self) -> Result<Spawned, Refusal> {
        let mut started = None;
        self.until("a start", |this| {
            started = this.children.poll_started(Self::now());
            started.is_some()
        });
        let (conn, result) = started.unwrap();
        assert_eq!(conn, ME);
        result
    }

    fn effect(&mut self, job: JobId, effect: JobEffect) {
        self.children.effect(Self::now(), job, effect);
    }

    fn turn(&mut self, timeout: Duration) {
        let ready = if self.children.is_ready() { Duration::ZERO } else { timeout };
        let due = self.children.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = due.map_or(ready, |due| due.min(ready));
        match self.poll.poll(&mut self.events, Some(timeout)) {
            // A child's SIGCHLD that comes while another is being spawned.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return,
            polled => polled.unwrap(),
        }
        self.turns += 1;
        for event in &self.events {
            match Source::from_token(event.token()) {
                Some(Source::Child(packed)) => self.children.handle_event(packed, event),
                Some(Source::Waker) => {}
                _ => panic!("{event:?}"),
            }
        }
        self.children.handle_timeout(Self::now());
        self.children.run(Self::now(), &mut self.sink);
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "{what} took too long: {:?}", self.children.slots);
            self.turn(Duration::from_millis(100));
        }
    }

    fn seen(&self, job: JobId) -> &Seen {
        static NOTHING: Seen =
            Seen { stdout: Vec::new(), stderr: Vec::new(), ended: [false; 2], exited: None, taken: 0, unread: false };
        self.sink.seen.get(&job).unwrap_or(&NOTHING)
    }

    /// Runs a command to its end and lets go of it.
    fn finish(&mut self, job: JobId, pty: bool) -> Seen {
        self.until("a command", |this| this.seen(job).is_over(pty));
        self.effect(job, JobEffect::Release);
        self.sink.seen.remove(&job).unwrap()
    }

    fn output(&mut self, text: &str) -> String {
        let job = self.spawn(shell(text)).job;
        String::from_utf8(self.finish(job, false).stdout).unwrap()
    }
}

fn shell(text: &str) -> Spawn {
    Spawn { id: 7, program: Program::Shell(text.into()), cwd: None, env: vec![], stdin: true, merge: false, pty: None }
}

fn argv(argv: &[&str]) -> Spawn {
    Spawn { program: Program::Argv(argv.iter().map(|arg| arg.to_string()).collect()), ..shell("") }
}

fn on_terminal(spec: Spawn) -> Spawn {
    Spawn { pty: Some(Pty { rows: 30, cols: 100, term: None }), ..spec }
}

#[test]
fn a_command_has_two_outputs_and_a_code() {
    let mut turns = Loop::new();
    let job = turns.spawn(shell("echo out; echo err >&2; exit 3")).job;
    let seen = turns.finish(job, false);
    assert_eq!((&seen.stdout[..], &seen.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(seen.exited, Some(ExitStatus::Code(3)));
    assert!(turns.children.is_empty());
}

#[test]
fn thirty_mebibytes_of_binary_pass_byte_for_byte_through_a_pipe() {
    let mut turns = Loop::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = vec![0; 30 << 20];
    let mut state = 1u64;
    for byte in &mut bytes {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *byte = (state >> 56) as u8;
    }
    std::fs::write(file.path(), &bytes).unwrap();
    let job = turns.spawn(argv(&["cat", file.path().to_str().unwrap()])).job;
    assert!(turns.finish(job, false).stdout == bytes);
}

#[test]
fn five_mebibytes_of_input_come_back_through_cat() {
    let mut turns = Loop::new();
    let job = turns.spawn(argv(&["/bin/cat"])).job;
    let input: Vec<u8> = (0..5u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for piece in input.chunks(50_000) {
        turns.effect(job, JobEffect::Write(Bytes::copy_from_slice(piece)));
    }
    turns.effect(job, JobEffect::CloseInput);
    let seen = turns.finish(job, false);
    assert!(seen.stdout == input && seen.taken == input.len());
}

#[test]
fn a_terminal_gives_every_line_of_seq() {
    let mut turns = Loop::new();
    let job = turns.spawn(on_terminal(argv(&["seq", "1", "1000000"]))).job;
    let seen = turns.finish(job, true);
    let expected: String = (1..=1_000_000).map(|n| format!("{n}\r\n")).collect();
    assert!(seen.stdout == expected.as_bytes());
    assert_eq!(seen.exited, Some(ExitStatus::Code(0)));
}

#[test]
fn a_terminal_takes_long_input_an_end_of_file_and_a_new_size() {
    let mut turns = Loop::new();
    let job = turns.spawn(on_terminal(shell("stty -echo; trap 'stty size; exit 0' WINCH; wc -l; read x; exit 1"))).job;
    let lines = "x\n".repeat(300_000);
    turns.effect(job, JobEffect::Write(Bytes::from(lines)));
    turns.effect(job, JobEffect::CloseInput);
    turns.until("wc", |this| this.seen(job).stdout.ends_with(b"300000\r\n"));
    turns.effect(job, JobEffect::Resize { rows: 11, cols: 222 });
    let seen = turns.finish(job, true);
    let text = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(text.ends_with("11 222\r\n"), "{text:?}");
    assert_eq!((seen.exited, seen.taken), (Some(ExitStatus::Code(0)), 600_000));
}

#[test]
fn control_c_is_a_byte_that_the_terminal_understands() {
    let mut turns = Loop::new();
    let job = turns.spawn(on_terminal(argv(&["cat"]))).job;
    turns.effect(job, JobEffect::Write(Bytes::from_static(b"x\n")));
    // What was typed is echoed, and then cat's.
    turns.until("cat", |this| this.seen(job).stdout == b"x\r\nx\r\n");
    turns.effect(job, JobEffect::Write(Bytes::from_static(b"\x03")));
    assert_eq!(turns.finish(job, true).exited, Some(ExitStatus::Signal(Signal::parse("INT").unwrap())));
}

#[test]
fn an_output_that_is_closed_silently_is_noticed() {
    let mut turns = Loop::new();
    let Spawned { job, .. } = turns.spawn(shell("exec >&- 2>&-; read line; exit 5"));
    turns.until("both ends", |this| this.seen(job).ended == [true; 2]);
    assert_eq!(turns.seen(job).exited, None);
    turns.effect(job, JobEffect::Write(Bytes::from_static(b"go\n")));
    assert_eq!(turns.finish(job, false).exited, Some(ExitStatus::Code(5)));
}

#[test]
fn an_input_that_nobody_reads_is_dropped_and_counted_as_taken() {
    let mut turns = Loop::new();
    let job = turns.spawn(shell("exec <&-; sleep 0.2; echo x")).job;
    for _ in 0..20 {
        turns.effect(job, JobEffect::Write(Bytes::from(vec![1; 100_000])));
    }
    turns.until("the input", |this| this.seen(job).taken == 2_000_000);
    turns.effect(job, JobEffect::Write(Bytes::from_static(b"more")));
    turns.effect(job, JobEffect::CloseInput);
    let seen = turns.finish(job, false);
    assert_eq!((seen.taken, seen.exited), (2_000_004, Some(ExitStatus::Code(0))));
}

#[test]
fn a_reader_that_stands_still_costs_nothing_and_goes_on_without_a_new_edge() {
    let mut turns = Loop::new();
    turns.sink.discard = true;
    let jobs: Vec<_> = (0..8).map(|_| turns.spawn(argv(&["yes"])).job).collect();
    turns.until("output", |this| jobs.iter().all(|job| !this.seen(*job).stdout.is_empty()));
    turns.sink.willing = false;
    turns.until("all of them stalled", |this| !this.children.is_ready() && this.children.stalled.len() == 1);
    // The edges of what the pipes still hold come first.
    turns.until("the last edge", |this| {
        this.turn(Duration::from_millis(100));
        this.events.is_empty()
    });
    let before = turns.turns;
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        turns.turn(end.saturating_duration_since(Instant::now()));
    }
    assert!(turns.turns - before <= 3, "{} turns while nobody read", turns.turns - before);
    turns.sink.seen.clear();
    turns.sink.willing = true;
    turns.children.resume(ME);
    assert!(turns.children.is_ready());
    turns.until("output again", |this| jobs.iter().all(|job| !this.seen(*job).stdout.is_empty()));
    for job in jobs {
        turns.effect(job, JobEffect::Abandon);
    }
    turns.until("their end", |this| this.children.is_empty());
    assert!(turns.children.stalled.is_empty());
}

#[test]
fn both_outputs_have_their_turn() {
    let mut turns = Loop::new();
    turns.sink.discard = true;
    let job = turns.spawn(shell("yes & yes >&2")).job;
    turns.until("both", |this| !this.seen(job).stdout.is_empty() && !this.seen(job).stderr.is_empty());
    turns.effect(job, JobEffect::Abandon);
    turns.until("their end", |this| this.children.is_empty());
}
