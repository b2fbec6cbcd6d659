//! How commands end: by themselves, by time, with their connection.

use super::*;

#[test]
fn exit_comes_once_and_last_whatever_ends_first() {
    let events = [
        ChildEvent::OutputEnd(Stream::Stdout),
        ChildEvent::OutputEnd(Stream::Stderr),
        ChildEvent::Exited(ExitStatus::Code(3)),
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut bench = Bench::running(argv(&["x"]));
        for (n, event) in order.into_iter().enumerate() {
            assert!(bench.frames().is_empty() && bench.exec.is_live(7), "{order:?} {n}");
            bench.child(events[event]);
        }
        assert_eq!(bench.frames(), [json!({"event":"exit","id":7,"code":3})]);
        assert_eq!(bench.job_effects(), [JobEffect::Release]);
        assert!(bench.exec.is_idle() && bench.exec.poll_timeout().is_none());
        // What was still on its way is nobody's any more.
        bench.child(ChildEvent::Output(Stream::Stdout, b"late"));
        assert!(bench.frames().is_empty());
    }
}

#[test]
fn a_pipe_that_somebody_holds_is_given_half_a_second_of_silence() {
    let mut bench = Bench::running(argv(&["x"]));
    bench.pass(10_000);
    bench.child(ChildEvent::OutputEnd(Stream::Stderr));
    bench.child(ChildEvent::Exited(ExitStatus::Code(0)));
    bench.pass(499);
    bench.child(ChildEvent::Output(Stream::Stdout, b"x"));
    bench.pass(499);
    assert_eq!(bench.frames().len(), 1);
    bench.pass(1);
    assert_eq!(bench.frames(), [json!({"event":"exit","id":7,"code":0})]);
    assert_eq!(bench.job_effects(), [JobEffect::Release]);
}

#[test]
fn an_output_that_is_not_read_is_not_silent() {
    let mut bench = Bench::running(argv(&["x"]));
    bench.child(ChildEvent::Exited(ExitStatus::Code(0)));
    bench.child(ChildEvent::Unread(true));
    bench.pass(10_000);
    assert!(bench.frames().is_empty());
    bench.child(ChildEvent::Unread(false));
    bench.pass(499);
    assert!(bench.frames().is_empty());
    bench.pass(1);
    assert_eq!(bench.frames().len(), 1);
}

#[test]
fn a_timeout_ends_the_command_once() {
    let mut bench = Bench::running(request::Exec { timeout_ms: Some(1_000), ..argv(&["x"]) });
    bench.pass(999);
    assert!(bench.job_effects().is_empty());
    bench.pass(1);
    assert_eq!(bench.job_effects(), [JobEffect::Terminate]);
    bench.pass(10_000);
    bench.exec.shutdown(&mut bench.out);
    bench.exec.end_of_input(&mut bench.out);
    assert!(bench.job_effects().is_empty() && bench.frames().is_empty());
    bench.child(ChildEvent::Exited(ExitStatus::Signal(Signal::KILL)));
    bench.end_outputs();
    assert_eq!(bench.frames(), [json!({"event":"exit","id":7,"signal":"SIGKILL","reason":"timeout"})]);
}

#[test]
fn no_timeout_is_too_long() {
    let mut bench = Bench::running(request::Exec { timeout_ms: Some(u64::MAX), ..argv(&["x"]) });
    bench.pass(1_000_000);
    assert!(bench.job_effects().is_empty());
}

#[test]
fn an_ended_command_is_over_even_if_somebody_outside_its_group_goes_on_writing() {
    for exits_first in [true, false] {
        let mut bench = Bench::running(argv(&["x"]));
        let exited = ChildEvent::Exited(ExitStatus::Code(0));
        if exits_first {
            bench.child(exited);
        }
        bench.exec.shutdown(&mut bench.out);
        if !exits_first {
            bench.child(exited);
        }
        let mut ms = 0;
        while bench.exec.is_live(7) {
            bench.child(ChildEvent::Output(Stream::Stdout, b"y"));
            bench.pass(100);
            ms += 100;
        }
        assert!((2_000..=2_600).contains(&ms), "{ms}");
        assert_eq!(bench.frames().last(), Some(&json!({"event":"exit","id":7,"code":0,"reason":"killed"})));
    }
}

#[test]
fn the_end_of_input_ends_commands_that_were_not_to_outlive_it() {
    let mut bench = Bench::running(argv(&["x"]));
    bench.exec.end_of_input(&mut bench.out);
    assert_eq!(bench.job_effects(), [JobEffect::Terminate]);
    bench.child(ChildEvent::Exited(ExitStatus::Signal(Signal::TERM)));
    bench.end_outputs();
    assert_eq!(bench.frames(), [json!({"event":"exit","id":7,"signal":"SIGTERM","reason":"killed"})]);

    let finish = |request| request::Exec { hangup: Hangup::Finish, ..request };
    for (request, effect) in [
        (finish(argv(&["x"])), vec![JobEffect::CloseInput]),
        (finish(on_terminal()), vec![JobEffect::CloseInput]),
        (finish(request::Exec { stdin: Some(false), ..argv(&["x"]) }), vec![]),
    ] {
        let mut bench = Bench::running(request);
        bench.exec.end_of_input(&mut bench.out);
        assert_eq!(bench.job_effects(), effect);
        bench.exec.shutdown(&mut bench.out);
        assert_eq!(bench.job_effects(), [JobEffect::Terminate]);
    }
}

#[test]
fn abandoned_commands_are_forgotten() {
    let mut bench = Bench::running(argv(&["x"]));
    bench.exec.start(8, argv(&["y"]), &mut bench.out);
    bench.effects();
    bench.exec.abandon(&mut bench.out);
    assert_eq!(bench.job_effects(), [JobEffect::Abandon]);
    assert!(bench.exec.is_idle());
    // The one that was just being started is let go when it is there.
    bench.exec.spawned(bench.now, Ok(Spawned { job: JOB, pid: 1 }), &mut bench.out);
    assert_eq!(bench.job_effects(), [JobEffect::Abandon]);
    assert!(bench.frames().is_empty() && bench.exec.is_idle());
}
