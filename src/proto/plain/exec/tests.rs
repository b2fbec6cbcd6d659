//! Plain commands with a driver that runs what the test says.

use super::*;
use crate::proto::command::ExitStatus;
use crate::proto::plain::SILENCE as MESSAGE_SILENCE;
use crate::wire::error::ErrorCode;
use std::io::IoSlice;

/// One client, and how far its commands are.
struct Client {
    exec: PlainExec,
    out: Outbox,
    now: Now,
    jobs: u64,
    /// What was asked for beside starts.
    done: Vec<(JobId, JobEffect)>,
}

impl Client {
    fn new() -> Self {
        let now = Now { instant: Instant::now(), unix_ms: 5 };
        Client { exec: PlainExec::default(), out: Outbox::default(), now, jobs: 0, done: Vec::new() }
    }

    fn input(&mut self, input: Input<'_>) {
        self.exec.handle_input(self.now, input, &mut self.out);
    }

    /// Time goes by, and whatever is due meanwhile is done.
    fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while let Some(due) = self.exec.poll_timeout().filter(|due| *due <= end) {
            self.now.instant = due;
            self.exec.handle_timeout(self.now, &mut self.out);
            assert_ne!(self.exec.poll_timeout(), Some(due), "a deadline that does nothing would spin");
        }
        self.now.instant = end;
    }

    /// Carries out effects; the command that is to be started, if any.
    fn asked(&mut self) -> Option<Vec<u8>> {
        let mut started = None;
        while let Some(effect) = self.out.effects.pop_front() {
            match effect {
                Effect::Spawn(spawn) => {
                    assert!(spawn.merge && !spawn.stdin && spawn.pty.is_none());
                    let Program::Shell(text) = spawn.program else { panic!("{:?}", spawn.program) };
                    assert_eq!(started.replace(text.into_vec()), None);
                }
                Effect::Job(job, effect) => self.done.push((job, effect)),
                other => panic!("{other:?}"),
            }
        }
        started
    }

    /// Starts the command that was asked for.
    fn start(&mut self) -> (Vec<u8>, JobId) {
        let text = self.asked().expect("no command was asked for");
        self.jobs += 1;
        let job = JobId(self.jobs);
        self.input(Input::Spawned(Ok(Spawned { job, pid: 7 })));
        (text, job)
    }

    fn child(&mut self, job: JobId, event: ChildEvent<'_>) {
        self.input(Input::Child(job, event));
    }

    fn end(&mut self, job: JobId) {
        self.child(job, ChildEvent::Exited(ExitStatus::Code(0)));
        self.child(job, ChildEvent::OutputEnd(Stream::Stdout));
    }

    /// Runs everything that is asked for as a shell that repeats its text.
    fn run_all(&mut self) {
        while let Some(text) = self.asked() {
            self.jobs += 1;
            let job = JobId(self.jobs);
            self.input(Input::Spawned(Ok(Spawned { job, pid: 7 })));
            if !text.is_empty() {
                self.child(job, ChildEvent::Output(Stream::Stdout, &text));
            }
            self.end(job);
        }
    }

    /// Sends what is queued; the segments of one write.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let mut slices = [IoSlice::new(b""); 64];
        let (n, more) = self.out.queue.slices(&mut slices);
        assert!(!more);
        let sent: Vec<_> = slices[..n].iter().map(|slice| slice.to_vec()).collect();
        self.out.queue.advance(sent.iter().map(Vec::len).sum());
        sent
    }

    /// The answers that are queued.
    fn answers(&mut self) -> Vec<String> {
        let bytes = self.sent().concat();
        let (mut rest, mut answers) = (&bytes[..], Vec::new());
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let (text, tail) = tail.split_at(i32::from_le_bytes(*length) as usize);
            answers.push(String::from_utf8_lossy(text).into_owned());
            rest = tail;
        }
        answers
    }
}

#[test]
fn however_the_bytes_come_the_same_commands_run_one_after_the_other() {
    let sent = b"echo one\r\n\necho \xc3\xa9\ntwo";
    let expected = ["echo one", "", "echo \u{e9}", "two"];
    let splits = (0..=sent.len()).map(|cut| vec![&sent[..cut], &sent[cut..]]);
    for pieces in splits.chain([sent.chunks(1).collect()]) {
        let mut client = Client::new();
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            client.input(Input::Bytes(piece));
            client.run_all();
        }
        client.pass(MESSAGE_SILENCE);
        client.run_all();
        assert_eq!(client.answers(), expected);
        assert!(!client.exec.is_finished(&client.out));
        client.input(Input::Eof);
        assert!(client.exec.is_finished(&client.out) && !client.exec.has_failed());
    }
}

#[test]
fn an_answer_is_a_length_and_both_outputs_in_one_piece() {
    let mut client = Client::new();
    client.input(Input::Bytes(b"make\n"));
    let (text, job) = client.start();
    assert_eq!(text, b"make");
    client.child(job, ChildEvent::Output(Stream::Stdout, &[b'x'; 60_000]));
    client.child(job, ChildEvent::Output(Stream::Stdout, b"end"));
    client.child(job, ChildEvent::OutputEnd(Stream::Stdout));
    assert!(client.out.queue.is_empty() && client.exec.held() >= 60_003);
    client.child(job, ChildEvent::Exited(ExitStatus::Code(3)));
    assert_eq!(client.asked(), None);
    assert_eq!(client.done, [(job, JobEffect::Release)]);
    let sent = client.sent();
    assert_eq!((sent.len(), sent[0].len(), &sent[0][..5]), (1, 60_007, &b"\x63\xea\0\0x"[..]));
    assert_eq!(client.exec.held(), 0);
    client.input(Input::Bytes(b"true\n"));
    let (_, job) = client.start();
    client.end(job);
    assert_eq!(client.sent(), [b"\0\0\0\0"]);
}

#[test]
fn texts_need_not_be_utf_8_and_are_not_changed() {
    let mut client = Client::new();
    client.input(Input::Bytes(b" printf '\xff\xf4\x01' \n"));
    assert_eq!(client.asked().unwrap(), b" printf '\xff\xf4\x01' ");
}

#[test]
fn silence_ends_a_command_also_while_another_runs() {
    let mut client = Client::new();
    client.input(Input::Bytes(b"slow"));
    client.pass(MESSAGE_SILENCE);
    let (_, job) = client.start();
    assert!(client.exec.wants().socket_read, "a broken connection must be noticed");
    client.input(Input::Bytes(b"first"));
    client.pass(MESSAGE_SILENCE);
    client.input(Input::Bytes(b"second"));
    client.pass(MESSAGE_SILENCE);
    assert_eq!(client.asked(), None, "one runs at a time");
    client.end(job);
    client.run_all();
    assert_eq!(client.answers(), ["", "first", "second"]);
}

#[test]
fn commands_that_wait_are_bounded_and_silence_counts_anew_after_that() {
    let mut client = Client::new();
    client.input(Input::Bytes(b"first\n"));
    let (_, job) = client.start();
    client.input(Input::Bytes(&[&b"next\n".repeat(MAX_WAITING)[..], b"unfin"].concat()));
    assert!(!client.exec.wants().socket_read);
    assert_eq!(client.exec.poll_timeout(), None);
    client.pass(MESSAGE_SILENCE * 5);
    client.end(job);
    let (_, job) = client.start();
    assert!(client.exec.wants().socket_read);
    // It was sent long ago, but only now it is read.
    client.input(Input::Bytes(b"ished\n"));
    client.end(job);
    client.run_all();
    let answers = client.answers();
    assert_eq!((answers.len(), &answers[MAX_WAITING + 1][..]), (MAX_WAITING + 2, "unfinished"));
}

#[test]
fn what_cannot_run_is_answered_in_its_turn_with_the_reason() {
    let mut client = Client::new();
    client.input(Input::Bytes(b"a\nb\0c\n"));
    client.input(Input::Bytes(&[b'x'; 40_000]));
    client.input(Input::Bytes(&[&[b'x'; 200_000][..], b"\nlast\n"].concat()));
    assert_eq!(client.asked().unwrap(), b"a");
    client.input(Input::Spawned(Err(Refusal::new(ErrorCode::Limit, "too many"))));
    client.run_all();
    let nul = "reactord: the command holds a NUL character, which no command can be given\n";
    let long = "reactord: the command is longer than 65,536 bytes: put it into a file\n";
    assert_eq!(client.answers(), ["reactord: too many\n", nul, long, "last"]);
    client.input(Input::Bytes(&[b'y'; MAX_MESSAGE]));
    client.pass(MESSAGE_SILENCE);
    assert_eq!(client.asked().map(|text| text.len()), Some(MAX_MESSAGE));
}

#[test]
fn a_command_that_writes_too_much_is_ended_and_answered_with_the_most() {
    let mut client = Client::new();
    client.input(Input::Bytes(b"yes\nafter\n"));
    let (_, job) = client.start();
    let piece = vec![b'y'; MAX_REPLY / 4];
    for _ in 0..4 {
        client.child(job, ChildEvent::Output(Stream::Stdout, &piece));
        assert!(client.out.queue.is_empty());
    }
    client.child(job, ChildEvent::Output(Stream::Stdout, b"z"));
    client.child(job, ChildEvent::Output(Stream::Stdout, b"z"));
    assert_eq!(client.asked(), None, "the next one waits until the answer was taken");
    assert!(client.exec.wants_drained());
    assert_eq!(client.done, [(job, JobEffect::Abandon)]);
    let sent = client.sent().concat();
    assert_eq!((sent.len(), &sent[..4]), (4 + MAX_REPLY, &(MAX_REPLY as i32).to_le_bytes()[..]));
    client.input(Input::Drained);
    assert_eq!(client.start().0, b"after");
}

#[test]
fn who_stays_behind_delays_an_answer_no_longer_than_it_is_silent() {
    let mut client = Client::new();
    client.input(Input::Bytes(b"sleep 99 & echo\n"));
    let (_, job) = client.start();
    client.child(job, ChildEvent::Exited(ExitStatus::Code(0)));
    client.pass(SILENCE / 2);
    client.child(job, ChildEvent::Output(Stream::Stdout, b"more"));
    client.pass(SILENCE - Duration::from_millis(1));
    assert!(client.out.queue.is_empty());
    client.pass(Duration::from_millis(1));
    assert_eq!(client.answers(), ["more"]);
    client.input(Input::Bytes(b"yes &\n"));
    let (_, job) = client.start();
    client.child(job, ChildEvent::Exited(ExitStatus::Code(0)));
    for _ in 0..5 {
        client.child(job, ChildEvent::Output(Stream::Stdout, b"y"));
        client.pass(GIVE_UP / 5);
    }
    assert_eq!(client.answers(), ["yyyyy"]);
    assert_eq!(client.exec.poll_timeout(), None);
}

#[test]
fn the_end_of_input_leaves_time_for_everything_that_came() {
    let mut client = Client::new();
    client.input(Input::Bytes(b"one\ntwo"));
    client.input(Input::Eof);
    let (_, job) = client.start();
    assert!(!client.exec.is_finished(&client.out) && !client.exec.wants().socket_read);
    assert_eq!(client.exec.poll_timeout(), None);
    client.end(job);
    assert!(!client.exec.is_finished(&client.out));
    client.run_all();
    assert!(!client.exec.is_finished(&client.out), "not before the answers are sent");
    assert_eq!(client.answers(), ["", "two"]);
    assert!(client.exec.is_finished(&client.out));
}

#[test]
fn a_connection_that_is_gone_or_ended_takes_its_command_along() {
    for input in [Input::Gone, Input::Kicked, Input::Shutdown, Input::SlowConsumer] {
        let mut client = Client::new();
        client.input(Input::Bytes(b"one\ntwo\n"));
        let (_, job) = client.start();
        client.input(input);
        client.child(job, ChildEvent::Output(Stream::Stdout, b"late"));
        client.input(Input::Bytes(b"more\n"));
        assert_eq!(client.asked(), None);
        assert_eq!(client.done, [(job, JobEffect::Abandon)]);
        assert!(client.exec.has_failed() && client.exec.is_finished(&client.out));
        assert_eq!(client.exec.poll_timeout(), None);
    }
    let mut client = Client::new();
    client.input(Input::Bytes(b"one\n"));
    assert!(client.asked().is_some());
    client.input(Input::Gone);
    client.input(Input::Spawned(Ok(Spawned { job: JobId(1), pid: 7 })));
    assert_eq!(client.asked(), None);
    assert_eq!(client.done, [(JobId(1), JobEffect::Abandon)]);
}
