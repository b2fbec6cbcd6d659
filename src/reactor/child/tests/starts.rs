//! Commands that are started, counted, found and refused.

use super::*;

#[test]
fn a_thousand_commands_leave_no_zombie_and_no_descriptor() {
    let mut turns = Loop::new();
    // Lazily opened things of the first command.
    assert_eq!(turns.output("echo x"), "x\n");
    let mut running = VecDeque::new();
    for n in 0..1_000 {
        let spawned = turns.spawn(argv(&["echo", &n.to_string()]));
        running.push_back((n, spawned));
        while running.len() >= 100 || (n == 999 && !running.is_empty()) {
            let (n, Spawned { job, pid }) = running.pop_front().unwrap();
            assert_eq!(turns.finish(job, false).stdout, format!("{n}\n").into_bytes());
            assert!(!std::path::Path::new(&format!("/proc/{pid}/stat")).exists(), "a zombie is left");
        }
    }
    assert!(turns.children.is_empty() && turns.children.by_job.is_empty() && turns.children.kills.is_empty());
    assert_eq!(turns.children.started(), 1_001);
}

#[test]
fn the_registry_finds_every_job() {
    let mut turns = Loop::new();
    let Spawned { job, pid } = turns.spawn(argv(&["sleep", "99"]));
    let list = String::from_utf8(turns.children.jobs_json(ConnId(2))).unwrap();
    assert!(list.contains(&format!(r#""pid":{pid},"nick":"ann","argv":["sleep","99"]"#)), "{list}");
    turns.children.kill(job, Signal::KILL).unwrap();
    assert_eq!(turns.finish(job, false).exited, Some(ExitStatus::Signal(Signal::KILL)));
    assert_eq!(turns.children.kill(job, Signal::TERM).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn there_is_a_limit_for_all() {
    let mut turns = Loop::new();
    turns.children.max_jobs = 2;
    let jobs = [turns.spawn(argv(&["sleep", "99"])).job, turns.spawn(argv(&["sleep", "99"])).job];
    assert_eq!(turns.start(argv(&["true"])).unwrap_err().code, ErrorCode::Limit);
    for job in jobs {
        turns.effect(job, JobEffect::Abandon);
    }
    turns.until("their end", |this| this.children.is_empty());
    turns.spawn(argv(&["true"]));
}

#[test]
fn what_is_being_started_counts_and_what_is_refused_gives_its_place_back() {
    let mut turns = Loop::new();
    turns.children.max_jobs = 2;
    turns.start(argv(&["/nonexistent"])).unwrap();
    turns.start(argv(&["sleep", "99"])).unwrap();
    assert_eq!((turns.children.len(), turns.children.starting()), (2, 2));
    assert_eq!(turns.start(argv(&["true"])).unwrap_err().code, ErrorCode::Limit);
    // They come up in the order in which they were asked for.
    assert_eq!(turns.started().unwrap_err().code, ErrorCode::NotFound);
    let job = turns.started().unwrap().job;
    assert_eq!((turns.children.len(), turns.children.starting()), (1, 0));
    turns.effect(job, JobEffect::Abandon);
    turns.until("its end", |this| this.children.is_empty());
}

#[test]
fn a_stop_ends_what_runs_and_what_comes_up_later_and_starts_nothing_more() {
    let mut turns = Loop::new();
    let running = turns.spawn(argv(&["sleep", "99"])).job;
    for _ in 0..900 {
        turns.start(argv(&["sleep", "98"])).unwrap();
    }
    turns.children.terminate_all(Loop::now());
    assert!(!turns.children.is_empty());
    assert_eq!(turns.finish(running, false).exited, Some(ExitStatus::Signal(Signal::TERM)));
    let mut refused = 0;
    for _ in 0..900 {
        match turns.started() {
            // Nobody lets go of it but who asked for it.
            Ok(late) => assert_eq!(turns.finish(late.job, false).exited, Some(ExitStatus::Signal(Signal::TERM))),
            Err(refusal) => {
                assert_eq!(refusal.code, ErrorCode::ShuttingDown);
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "900 were started faster than asked for");
    turns.until("their end", |this| this.children.is_empty());
    assert!(turns.children.jobs.is_empty() && turns.children.by_job.is_empty());
}
