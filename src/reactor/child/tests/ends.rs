//! How commands and their groups end, and what is told of it.

use super::*;

/// Whether a process of that group is left; zombies are their parent's business.
fn group_lives(pid: u32) -> bool {
    let in_group = |stat: String| {
        // proc_pid_stat(5): the name may hold anything; state, ppid and pgrp follow it.
        let fields: Vec<_> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        fields[0] != "Z" && fields[2] == pid.to_string()
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    // A process may be gone before it is looked at.
    entries.flat_map(|entry| std::fs::read_to_string(entry.path().join("stat"))).any(in_group)
}

#[test]
fn the_end_is_told_while_a_grandchild_holds_the_outputs_and_is_left_alone() {
    let mut turns = Loop::new();
    let Spawned { job, pid } = turns.spawn(shell("sleep 99 & echo x"));
    turns.until("the shell's end", |this| this.seen(job).exited.is_some() && this.seen(job).stdout == b"x\n");
    assert_eq!(turns.seen(job).ended, [false; 2]);
    turns.effect(job, JobEffect::Release);
    assert!(turns.children.is_empty());
    assert!(group_lives(pid));
    rustix::process::kill_process_group(
        rustix::process::Pid::from_raw(pid as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[test]
fn terminating_reaches_the_group_and_a_stopped_process() {
    let mut turns = Loop::new();
    let Spawned { job, pid } = turns.spawn(shell("sleep 99 & sleep 98 & echo x; kill -STOP $$; wait"));
    turns.until("the shell", |this| this.seen(job).stdout == b"x\n");
    let began = Instant::now();
    turns.effect(job, JobEffect::Terminate);
    let seen = turns.finish(job, false);
    assert_eq!(seen.exited, Some(ExitStatus::Signal(Signal::TERM)));
    turns.until("the group", |_| !group_lives(pid));
    assert!(began.elapsed() < KILL_GRACE / 2);
    turns.until("the slot", |this| this.children.is_empty());
}

#[test]
fn a_child_that_ignores_term_is_killed_after_its_grace() {
    let mut turns = Loop::new();
    let Spawned { job, pid } = turns.spawn(shell("trap '' TERM; echo x; while :; do sleep 1; done"));
    turns.until("the shell", |this| this.seen(job).stdout == b"x\n");
    let began = Instant::now();
    turns.effect(job, JobEffect::Abandon);
    assert_eq!(turns.children.jobs_json(ME), b"[]");
    turns.until("the slot", |this| this.children.is_empty());
    assert!(began.elapsed() >= KILL_GRACE && began.elapsed() < KILL_GRACE * 2);
    turns.until("the group", |_| !group_lives(pid));
    assert_eq!(turns.seen(job).exited, None, "nothing follows an Abandon");
}

#[test]
fn members_that_survive_their_leader_are_killed_after_the_grace() {
    let mut turns = Loop::new();
    let Spawned { job, pid } = turns.spawn(shell("(trap '' TERM; echo x; while :; do sleep 1; done) & wait"));
    turns.until("the shell", |this| this.seen(job).stdout == b"x\n");
    turns.effect(job, JobEffect::Terminate);
    turns.until("the leader", |this| this.seen(job).exited.is_some());
    turns.effect(job, JobEffect::Release);
    assert!(group_lives(pid) && !turns.children.is_empty());
    turns.until("the slot", |this| this.children.is_empty());
    turns.until("the group", |_| !group_lives(pid));
}

#[test]
fn a_terminal_is_hung_up() {
    let mut turns = Loop::new();
    let Spawned { job, pid } = turns.spawn(on_terminal(shell("trap '' TERM; echo x; sleep 99; sleep 99")));
    turns.until("the shell", |this| this.seen(job).stdout == b"x\r\n");
    let began = Instant::now();
    turns.effect(job, JobEffect::Abandon);
    turns.until("the group", |_| !group_lives(pid));
    assert!(began.elapsed() < KILL_GRACE / 2);
}

#[test]
fn what_an_ended_command_left_unread_is_told_and_kept() {
    let mut turns = Loop::new();
    turns.sink.willing = false;
    let job = turns.spawn(shell("echo x; sleep 99 &")).job;
    turns.until("its end", |this| this.seen(job).exited.is_some() && this.seen(job).unread);
    assert!(turns.seen(job).stdout.is_empty());
    turns.sink.willing = true;
    turns.children.resume(ME);
    turns.until("its output", |this| this.seen(job).stdout == b"x\n" && !this.seen(job).unread);
    turns.effect(job, JobEffect::Abandon);
    turns.until("the slot", |this| this.children.is_empty());
}
