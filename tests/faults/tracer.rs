//! A running server under strace: errors and delays in chosen system calls.

use crate::common::{Server, has_program, skip, wait_for};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

/// A tracer attached to every thread of a server.
pub struct Tracer {
    strace: Child,
    /// What it has to say goes nowhere, but it ends where nobody could hear it.
    _said: BufReader<ChildStderr>,
    output: PathBuf,
}

impl Tracer {
    /// Attaches a tracer that injects `what` (strace(1), "Tampering") into the
    /// calls of that set, counted for each thread from now on. `None`, with a
    /// printed reason, where that is not possible here.
    pub fn attach(server: &Server, calls: &str, what: &str) -> Option<Tracer> {
        // Each thread by its number: what the server starts meanwhile is not followed.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let tasks: Vec<_> = tasks.map(|task| task.unwrap().file_name().into_string().unwrap()).collect();
        let targets: Vec<_> = tasks.iter().flat_map(|task| ["-p", task]).collect();
        Tracer::start(server, &targets, tasks.len(), calls, what)
    }

    /// The same for all that the server starts from now on.
    pub fn follow(server: &Server, calls: &str, what: &str) -> Option<Tracer> {
        Tracer::start(server, &["-f", "-p", &server.pid().to_string()], 1, calls, what)
    }

    /// Starts strace, which says of so many targets that it has them.
    fn start(server: &Server, targets: &[&str], count: usize, calls: &str, what: &str) -> Option<Tracer> {
        if !has_program("strace") {
            skip("strace is not installed");
            return None;
        }
        let output = server.home.path().join("strace");
        let mut strace = Command::new("strace")
            .args(targets)
            .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{what}")])
            .arg("-o")
            .arg(&output)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut said, mut done_with) = (String::new(), 0);
        let mut stderr = BufReader::new(strace.stderr.take().unwrap());
        loop {
            let mut line = String::new();
            if stderr.read_line(&mut line).unwrap() == 0 {
                break;
            }
            // A thread may have ended since the list was made.
            let line = line.trim_end();
            done_with += usize::from(line.contains(" attached") || line.ends_with("No such process"));
            said += line;
            if done_with == count {
                return Some(Tracer { strace, _said: stderr, output });
            }
        }
        strace.wait().unwrap();
        // Anything else is a mistake in the test.
        assert!(said.contains("ptrace"), "{said}");
        skip(&format!("this process may not trace another: {said}"));
        None
    }

    /// How many calls were tampered with.
    pub fn injected(&self) -> usize {
        let seen = self.seen();
        seen.lines().filter(|line| line.ends_with("(INJECTED)") || line.ends_with("(DELAYED)")).count()
    }

    /// Lets the server go on by itself; how many calls were tampered with.
    pub fn detach(mut self) -> usize {
        assert!(self.strace.try_wait().unwrap().is_none(), "strace ended before its time");
        self.interrupt();
        wait_for("strace to end", || self.strace.try_wait().unwrap());
        self.injected()
    }

    /// What strace saw.
    pub fn seen(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    fn interrupt(&self) {
        let pid = self.strace.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().unwrap();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // A test that fails must not leave the server traced; where strace has
        // ended already there is nothing to do.
        if matches!(self.strace.try_wait(), Ok(None)) {
            self.interrupt();
            let _ = self.strace.wait();
        }
    }
}
