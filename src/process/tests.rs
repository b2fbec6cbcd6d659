use super::*;
use crate::proto::exec::{Program, Spawn};
use crate::wire::error::ErrorCode;
use crate::wire::request::Pty;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::sync::Once;

fn shell(text: &str) -> Spawn {
    Spawn { id: 1, program: Program::Shell(text.into()), cwd: None, env: vec![], stdin: false, merge: false, pty: None }
}

fn argv(argv: &[&str]) -> Spawn {
    Spawn { program: Program::Argv(argv.iter().map(|arg| arg.to_string()).collect()), ..shell("") }
}

fn on_terminal(spec: Spawn) -> Spawn {
    Spawn { pty: Some(Pty { rows: 33, cols: 101, term: Some("vt220".into()) }), ..spec }
}

/// As a server does at its start; tests may be started with anything.
fn clean() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| restore_defaults().unwrap());
}

fn start(spec: &Spawn) -> Child {
    clean();
    spawn(&Environment::from_server(), spec).unwrap()
}

fn refusal(spec: &Spawn) -> Refused {
    let refused = spawn(&Environment::from_server(), spec).unwrap_err();
    (refused.code, refused.message)
}

type Refused = (ErrorCode, String);

/// Writes a program. Another process does, because a descriptor that is open
/// for writing may be in a child that was just forked by another test, and
/// such a file cannot be run.
fn write_program(path: &std::path::Path, content: &str, mode: u32) {
    let write = "printf %s \"$2\" >\"$1\"";
    let args = ["-c", write, "sh", path.to_str().unwrap(), content];
    assert!(std::process::Command::new("sh").args(args).status().unwrap().success());
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What a command says, until it has closed its output or its terminal.
fn output(spec: &Spawn) -> String {
    let mut child = start(spec);
    let mut output = Vec::new();
    match File::from(child.stdout).read_to_end(&mut output) {
        Err(e) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) && spec.pty.is_some() => {}
        read => drop(read.unwrap()),
    }
    child.process.wait().unwrap();
    String::from_utf8(output).unwrap().replace('\r', "")
}

#[test]
fn a_command_gets_no_descriptor_but_three() {
    let _open = File::open("/").unwrap();
    // ls itself has the directory open.
    assert_eq!(output(&argv(&["ls", "/proc/self/fd"])), "0\n1\n2\n3\n");
    assert_eq!(output(&on_terminal(shell("for fd in $(ls /proc/self/fd); do echo $fd; done"))), "0\n1\n2\n3\n");
}

#[test]
fn a_command_has_no_signal_blocked_or_ignored() {
    let asked = argv(&["grep", "-E", "^Sig(Blk|Ign|Pnd)", "/proc/self/status"]);
    // The C library's posix_spawn ignores the two real-time signals that it
    // keeps to itself (nptl(7)).
    let own: u64 = 1 << (32 - 1) | 1 << (33 - 1);
    for spec in [asked.clone(), on_terminal(asked)] {
        let said = output(&spec);
        assert_eq!(said.lines().count(), 3);
        for line in said.lines() {
            let mask = u64::from_str_radix(line.split_once('\t').unwrap().1, 16).unwrap();
            assert_eq!(mask & !own, 0, "{said}");
        }
    }
}

#[test]
fn a_command_leads_a_group_and_on_a_terminal_a_session_that_controls_it() {
    // pid, group, session, and the terminal's foreground group.
    let asked = "set -- $(cat /proc/$$/stat); echo $1 $5 $6 $8";
    let said = output(&shell(asked));
    let ids: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    let said = output(&on_terminal(shell(asked)));
    let ids: Vec<&str> = said.split_whitespace().collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{said}");
    assert_eq!(output(&on_terminal(shell("echo x >/dev/tty"))), "x\n");
}

#[test]
fn a_terminal_has_its_size_and_name_and_edits_utf8() {
    let said = output(&on_terminal(shell("stty size; echo $TERM; stty -a | grep -o ' iutf8'")));
    assert_eq!(said, "33 101\nvt220\n iutf8\n");
    assert_eq!(output(&shell("echo ${TERM-none}")), "none\n");
}

#[test]
fn a_clients_variables_are_added_and_win() {
    let env = [("A", "b c"), ("HOME", "/elsewhere")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let spec = Spawn { env: env.to_vec(), ..shell("echo $A $HOME ${CARGO_MANIFEST_DIR-unset}") };
    assert_eq!(output(&spec), "b c /elsewhere unset\n");
}

#[test]
fn a_directory_is_absolute_or_relative_to_the_home() {
    let home = Environment::from_server().home().to_owned();
    let physical = |path: &std::path::Path| format!("{}\n", path.canonicalize().unwrap().display());
    assert_eq!(output(&shell("pwd -P")), physical(&home));
    let here = tempfile::tempdir().unwrap();
    let at = |cwd: &str| Spawn { cwd: Some(cwd.into()), ..shell("pwd -P") };
    assert_eq!(output(&at(here.path().to_str().unwrap())), physical(here.path()));
    let below = tempfile::tempdir_in(&home).unwrap();
    assert_eq!(output(&at(below.path().file_name().unwrap().to_str().unwrap())), physical(below.path()));
}

#[test]
fn a_directory_that_is_none_is_refused_without_being_named() {
    let here = tempfile::tempdir().unwrap();
    let file = here.path().join("file");
    File::create(&file).unwrap();
    for (cwd, spec) in
        [("missing", argv(&["/bin/true"])), ("file", argv(&["true"])), ("file/x", on_terminal(argv(&["true"])))]
    {
        let cwd = here.path().join(cwd).to_str().unwrap().to_owned();
        let (code, message) = refusal(&Spawn { cwd: Some(cwd), ..spec });
        assert_eq!(code, ErrorCode::NotDirectory);
        assert!(!message.contains("file") && !message.contains("missing"), "{message}");
    }
}

#[test]
fn programs_that_cannot_run_are_told_apart() {
    let here = tempfile::tempdir().unwrap();
    let make = |name: &str, content: &str, mode| {
        let path = here.path().join(name);
        write_program(&path, content, mode);
        path.to_str().unwrap().to_owned()
    };
    let plain = make("plain", "", 0o644);
    let orphan = make("orphan", "#!/nonexistent/interpreter\n", 0o755);
    let dir = here.path().to_str().unwrap();
    let path = |spec| Spawn { env: vec![("PATH".into(), format!("/nonexistent:{dir}"))], ..spec };
    for (spec, code) in [
        (argv(&["/nonexistent/program"]), ErrorCode::NotFound),
        (argv(&["no-such-program-here"]), ErrorCode::NotFound),
        (argv(&[&format!("{plain}/x")]), ErrorCode::NotFound),
        (argv(&[&"x".repeat(5_000)]), ErrorCode::NotFound),
        (argv(&[&orphan]), ErrorCode::NotFound),
        (argv(&[&plain]), ErrorCode::Forbidden),
        (argv(&[dir]), ErrorCode::Forbidden),
        (path(argv(&["plain"])), ErrorCode::Forbidden),
        (path(argv(&["ls"])), ErrorCode::NotFound),
    ] {
        for spec in [spec.clone(), on_terminal(spec)] {
            let (found, message) = refusal(&spec);
            assert_eq!(found, code, "{spec:?}: {message}");
        }
    }
    assert!(refusal(&argv(&["no\nsuch"])).1.contains("\"no\\nsuch\""));
}

#[test]
fn a_name_is_searched_for_in_the_clients_path_and_kept_as_argument_zero() {
    let here = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/sh", here.path().join("my-shell")).unwrap();
    let cwd = Some(here.path().to_str().unwrap().to_owned());
    let asked = ["my-shell", "-c", "echo $0 $1"];
    let path = |path: &str| vec![("PATH".to_owned(), path.to_owned())];
    for path in [path("/nonexistent:."), path(""), path(here.path().to_str().unwrap())] {
        assert_eq!(output(&Spawn { cwd: cwd.clone(), env: path, ..argv(&asked) }), "my-shell\n");
    }
    assert_eq!(output(&Spawn { cwd, ..argv(&["./my-shell", "-c", "echo $0"]) }), "./my-shell\n");
}

#[test]
fn a_script_that_names_no_interpreter_is_the_shells() {
    let here = tempfile::tempdir().unwrap();
    let script = here.path().join("script");
    write_program(&script, "echo $1", 0o755);
    let spec = argv(&[script.to_str().unwrap(), "one"]);
    assert_eq!(output(&spec), "one\n");
    assert_eq!(output(&on_terminal(spec)), "one\n");
}

#[test]
fn too_many_arguments_are_too_large() {
    let long = "x".repeat(200_000);
    assert_eq!(refusal(&argv(&["/bin/true", &long])).0, ErrorCode::TooLarge);
}

#[test]
fn codes_and_signals_are_told_apart() {
    assert_eq!(start(&shell("exit 7")).process.wait().unwrap(), ExitStatus::Code(7));
    assert_eq!(start(&shell("kill -KILL $$")).process.wait().unwrap(), ExitStatus::Signal(Signal::KILL));
}

#[test]
fn signals_reach_the_group_after_its_leader_and_nobody_after_that() {
    for by_pidfd in [pidfd_means_group(), false] {
        // The grandchild holds the output for as long as it lives.
        let mut child = start(&shell("sleep 99 & exit 0"));
        child.process.by_pidfd = by_pidfd;
        assert_eq!(child.process.wait().unwrap(), ExitStatus::Code(0));
        assert!(!child.process.group_is_gone());
        child.process.signal(Signal::KILL).unwrap();
        File::from(child.stdout).read_to_end(&mut Vec::new()).unwrap();
        child.process.signal(Signal::TERM).unwrap();
        let stat = format!("/proc/{}/stat", child.process.pid());
        assert_eq!(fs::exists(&stat).unwrap(), !by_pidfd, "the leader keeps the number where nothing else does");
        drop(child.process);
        assert!(!fs::exists(&stat).unwrap());
    }
}

#[test]
fn a_stopped_group_can_be_terminated() {
    let mut child = start(&shell("kill -STOP $$; sleep 99"));
    while !fs::read_to_string(format!("/proc/{}/stat", child.process.pid())).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    child.process.terminate().unwrap();
    assert_eq!(child.process.wait().unwrap(), ExitStatus::Signal(Signal::TERM));
}
