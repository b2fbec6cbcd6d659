//! Every running command of the server, whosever connection it is on: what
//! `jobs` lists and `kill` finds. Processes themselves are the driver's.

use super::ConnId;
use super::exec::Program;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The longest list of jobs, in bytes: the body of one frame. Where there are
/// more, the youngest are left out.
const MAX_LIST: usize = crate::wire::MAX_BODY;

/// How much of a command's text is kept for the list, in bytes.
const MAX_SHOWN: usize = 4_096;

/// A running command; its number is unique while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// What is known of a running command.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Whose it is.
    pub conn: ConnId,
    /// The number that connection's client gave it.
    pub id: u64,
    /// Its process.
    pub pid: u32,
    /// The nick it was started under.
    pub nick: String,
    /// What it runs; at most 4,096 bytes of that are kept.
    pub program: Program,
    /// When it was started, in milliseconds since the Unix epoch.
    pub started_ms: u64,
}

/// The running commands by number.
#[derive(Debug, Default)]
pub struct Jobs {
    running: BTreeMap<JobId, Job>,
    last: u64,
}

#[derive(Serialize)]
struct Listed<'a> {
    job: u64,
    pid: u32,
    nick: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    argv: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<Cow<'a, str>>,
    started_ms: u64,
    mine: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
}

impl Jobs {
    /// Takes up a command and gives it its number.
    pub fn add(&mut self, mut job: Job) -> JobId {
        shorten(&mut job.program);
        self.last += 1;
        self.running.insert(JobId(self.last), job);
        JobId(self.last)
    }

    /// Forgets a command.
    pub fn remove(&mut self, job: JobId) -> Option<Job> {
        self.running.remove(&job)
    }

    /// A command.
    pub fn get(&self, job: JobId) -> Option<&Job> {
        self.running.get(&job)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The JSON array that answers `jobs` for `asker`, oldest first, at most
    /// 1 MiB long.
    pub fn list(&self, asker: ConnId) -> Vec<u8> {
        let mut list = b"[".to_vec();
        for (number, job) in &self.running {
            let (argv, shell) = match &job.program {
                Program::Argv(argv) => (Some(&argv[..]), None),
                Program::Shell(text) => (None, Some(text.to_string_lossy())),
            };
            let mine = job.conn == asker;
            let listed = Listed {
                job: number.0,
                pid: job.pid,
                nick: &job.nick,
                argv,
                shell,
                started_ms: job.started_ms,
                mine,
                id: mine.then_some(job.id),
            };
            let before = list.len();
            if before > 1 {
                list.push(b',');
            }
            serde_json::to_writer(&mut list, &listed).expect("texts and numbers always serialize");
            if list.len() + 1 > MAX_LIST {
                list.truncate(before);
                break;
            }
        }
        list.push(b']');
        list
    }
}

/// Cuts a program's text so that the registry's memory and the list are
/// bounded; a cut shows as an ellipsis.
fn shorten(program: &mut Program) {
    let mut left = MAX_SHOWN;
    match program {
        Program::Shell(text) if text.len() <= left => {}
        Program::Shell(text) => {
            let mut shown = text.to_string_lossy().into_owned();
            cut(&mut shown, left);
            *text = shown.into();
        }
        Program::Argv(argv) => {
            // Every argument costs, an empty one too.
            let shown = argv.iter().take_while(|arg| take(&mut left, arg.len() + 1)).count();
            if shown < argv.len() {
                argv.truncate(shown + 1);
                cut(&mut argv[shown], left);
                argv.shrink_to_fit();
            }
        }
    }
}

fn take(left: &mut usize, cost: usize) -> bool {
    let fits = cost <= *left;
    if fits {
        *left -= cost;
    }
    fits
}

fn cut(text: &mut String, mut at: usize) {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.truncate(at);
    text.push('…');
    text.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn job(conn: u64, program: Program) -> Job {
        Job { conn: ConnId(conn), id: 7, pid: 100, nick: "ann".into(), program, started_ms: 5 }
    }

    fn list(jobs: &Jobs, asker: u64) -> Vec<Value> {
        serde_json::from_slice(&jobs.list(ConnId(asker))).unwrap()
    }

    #[test]
    fn the_list_tells_ones_own_from_the_others() {
        let mut jobs = Jobs::default();
        assert_eq!(jobs.list(ConnId(1)), b"[]");
        jobs.add(job(1, Program::Argv(vec!["ls".into(), "-l".into()])));
        jobs.add(job(2, Program::Shell("sleep 9".into())));
        assert_eq!(
            String::from_utf8(jobs.list(ConnId(2))).unwrap(),
            concat!(
                r#"[{"job":1,"pid":100,"nick":"ann","argv":["ls","-l"],"started_ms":5,"mine":false},"#,
                r#"{"job":2,"pid":100,"nick":"ann","shell":"sleep 9","started_ms":5,"mine":true,"id":7}]"#
            )
        );
    }

    #[test]
    fn numbers_are_never_used_again() {
        let mut jobs = Jobs::default();
        let first = jobs.add(job(1, Program::Shell("a".into())));
        assert!(jobs.remove(first).is_some() && jobs.is_empty());
        assert_ne!(jobs.add(job(1, Program::Shell("a".into()))), first);
        assert_eq!(jobs.get(first), None);
    }

    #[test]
    fn long_commands_and_long_lists_are_cut_and_stay_json() {
        let mut jobs = Jobs::default();
        for _ in 0..1_000 {
            jobs.add(job(1, Program::Shell("ä\u{1}".repeat(30_000).into())));
        }
        let body = jobs.list(ConnId(1));
        assert!(body.len() <= MAX_LIST && body.len() > MAX_LIST / 2);
        let cut: Vec<Value> = serde_json::from_slice(&body).unwrap();
        assert!(cut[0]["shell"].as_str().unwrap().ends_with('…'));

        let mut jobs = Jobs::default();
        jobs.add(job(1, Program::Argv(vec!["x".into(); 30_000])));
        jobs.add(job(1, Program::Argv(vec!["y".repeat(4_095)])));
        let list = list(&jobs, 1);
        let argv = list[0]["argv"].as_array().unwrap();
        assert!(argv.len() <= MAX_SHOWN / 2 + 1 && argv.last().unwrap() == "…");
        assert_eq!(list[1]["argv"][0].as_str().unwrap().len(), 4_095);
    }
}
