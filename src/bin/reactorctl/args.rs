//! The command line, as clap reads it, and its help texts.

use crate::bench::Bench;
use clap::{Parser, Subcommand};
use reactord::client::Flags;
use std::path::PathBuf;

const AFTER: &str = "\
Environment: REACTOR_HOST, REACTOR_TOKEN_FILE, REACTOR_TOKEN (the token itself); a flag wins over them. By default the \
server is 127.0.0.1:8899 and the token is in $XDG_STATE_HOME/reactord/token, or else in \
~/.local/state/reactord/token.

Exit status: the command's own for exec and shell; 128+N where signal N ended it; 1 for a refused request; 2 for usage; \
255 where the connection or the authentication failed.";

/// Where the options of all commands stand in the help, in clap's count: behind a
/// command's own.
pub(crate) const LAST: usize = 100;

/// Talks to reactord: commands, files and chat on another machine.
#[derive(Debug, Parser)]
#[command(name = "reactorctl", version, after_help = AFTER, max_term_width = 100)]
pub(crate) struct Args {
    #[arg(
        short = 'H',
        long,
        global = true,
        display_order = LAST,
        value_name = "HOST:PORT",
        help = "The server: HOST, HOST:PORT or [V6]:PORT"
    )]
    host: Option<String>,
    /// Where the token is
    #[arg(long, global = true, display_order = LAST, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The name to be known by; the server gives one otherwise
    #[arg(long, global = true, display_order = LAST)]
    nick: Option<String>,
    /// One JSON object a line
    #[arg(long, global = true, display_order = LAST)]
    pub(crate) json: bool,
    /// No notes, no progress, no summary
    #[arg(short, long, global = true, display_order = LAST)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Args {
    /// What the command line says about the connection.
    pub(crate) fn flags(&self) -> Flags {
        Flags { host: self.host.clone(), token_file: self.token_file.clone(), nick: self.nick.clone() }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Measure round trips
    #[command(after_help = "Example: reactorctl ping -c 3")]
    Ping(Ping),
    /// Talk: a line editor at a terminal, plain lines on a pipe
    #[command(after_help = "\
At a terminal, /help lists the commands, Tab completes them and nicks, and what is typed stays while messages arrive \
above it. A lost connection is opened again by itself; what was missed is caught up, and what was typed meanwhile is \
sent then.

On a pipe, each line of standard input is said, or is a command, and each line of standard output is a message; // at a \
line's beginning stands for one / that is said. The end of input leaves once everything was answered; the exit status \
is 1 where something was refused.

Examples:
  reactorctl --nick alice chat
  echo 'the build is done' | reactorctl chat builds
  tail -f /dev/null | reactorctl --json chat builds")]
    Chat {
        /// The room to begin in
        #[arg(default_value = "lobby")]
        room: String,
        /// Messages to show on entering; 50 at a terminal, none on a pipe
        #[arg(long, value_name = "N")]
        history: Option<u64>,
    },
    /// Run a command there
    #[command(override_usage = "\
reactorctl exec [OPTIONS] [--] PROG [ARG]...
       reactorctl exec [OPTIONS] --sh TEXT")]
    #[command(after_help = "Standard input goes to the command, both outputs come back unchanged, INT and TERM are \
passed on (twice within a second ends reactorctl itself), and its exit status becomes ours.\n\n\
With --json the streams stay as they are, and one object about the end comes last on standard error.\n\n\
Examples:\n  reactorctl exec -- grep -r needle /var/log\n  reactorctl exec --sh 'df -h | tail -3'\n  \
reactorctl exec -t -- top")]
    Exec(Exec),
    /// An interactive login shell
    #[command(after_help = "After a newline: ~. disconnects, ~^Z suspends, ~~ sends one ~, ~? lists these.\n\n\
Example: reactorctl -H box shell")]
    Shell,
    /// Send files
    #[command(override_usage = "reactorctl put [OPTIONS] LOCAL... [REMOTE]")]
    #[command(after_help = "\
REMOTE is a directory where it ends with / or is the root, or where several files go there; otherwise it is the new \
path of the one file or directory. Without REMOTE, that is with one LOCAL alone, the name is kept and the file goes to \
the root. LOCAL - is standard input, which is first gathered in a temporary file without a name, because the server \
wants to know the length.

Modes and times of files go along; those of directories do not, which the protocol cannot set. With -r, symbolic links \
and special files are skipped with a note.

--resume hashes each file first, goes on where an interrupted upload stopped, leaves alone what is there already with \
the same content, and reconnects by itself.

Examples:
  reactorctl put notes.txt
  reactorctl put a.iso b.iso images/
  reactorctl put -r --resume photos/ backup/photos
  tar c . | reactorctl put - tree.tar")]
    Put(Put),
    /// Fetch files
    #[command(override_usage = "reactorctl get [OPTIONS] REMOTE... [LOCAL]")]
    #[command(after_help = "\
LOCAL is a directory where it ends with / or is one already, or where several files go there; otherwise it is the new \
name. Without LOCAL, that is with one REMOTE alone, the name that was typed is kept. LOCAL - is standard output; several \
files follow one another there.

A file arrives under a hidden temporary name beside its place and takes its own when it is whole. Modes (within your \
umask) and times are kept. --resume goes on where an interrupted download stopped, as long as the file has not changed \
on the server, and reconnects by itself.

Examples:
  reactorctl get notes.txt
  reactorctl get --verify images/a.iso images/b.iso /tmp
  reactorctl get -r backup/photos .
  reactorctl get tree.tar - | tar x")]
    Get(Get),
    /// List a directory; times are in UTC
    #[command(after_help = "Example: reactorctl ls -l images")]
    Ls {
        /// The directory; the root by default
        #[arg(default_value = "", hide_default_value = true)]
        path: String,
        /// Mode, size and time too
        #[arg(short)]
        long: bool,
    },
    /// Describe files; times are in UTC
    #[command(after_help = "Example: reactorctl stat notes.txt")]
    Stat {
        /// Relative to the root
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Remove files, links and empty directories
    #[command(after_help = "Example: reactorctl rm images/a.iso images")]
    Rm {
        /// Relative to the root
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Make directories
    #[command(after_help = "Example: reactorctl mkdir -p backup/2026/photos")]
    Mkdir {
        /// Relative to the root
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Make missing parents too, and let be what is there already
        #[arg(short, long)]
        parents: bool,
    },
    /// Rename, in one step
    #[command(after_help = "A TO that ends with / means into that directory.\n\nExample: reactorctl mv a.iso images/")]
    Mv {
        /// A file, a link or a directory
        from: String,
        /// Its new path, or the directory it goes into
        to: String,
        /// Replace what is there
        #[arg(long)]
        replace: bool,
    },
    /// BLAKE3 checksums of files, computed there
    #[command(after_help = "Example: reactorctl hash images/a.iso")]
    Hash {
        /// Relative to the root
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// List the chat's rooms
    #[command(after_help = "Example: reactorctl --json rooms")]
    Rooms,
    /// List a room's members
    #[command(after_help = "Example: reactorctl who lobby")]
    Who {
        /// Its name
        room: String,
    },
    /// The server's counters
    #[command(after_help = "Example: reactorctl --json stats")]
    Stats,
    /// List running commands
    #[command(after_help = "Example: reactorctl jobs")]
    Jobs,
    /// Send a signal to a running command, whoever started it
    #[command(after_help = "Example: reactorctl kill 7 INT")]
    Kill {
        /// Its number, as jobs lists it
        job: u64,
        /// The signal, by name or number; TERM by default
        #[arg(allow_hyphen_values = true)]
        signal: Option<String>,
    },
    /// Put a server of yours under load and check every answer
    #[command(after_help = "Every byte that comes back is checked; a wrong answer is exit status 1. Latencies are in \
microseconds; where a rate is given they count from when a request was meant to be sent, so that a server that stalls \
is charged for those that waited behind the stall.\n\nExamples:\n  reactorctl bench echo --connections 50 \
--pipeline 16\n  reactorctl bench fanout --subscribers 1000 --rate 100\n  reactorctl --json bench get --size 256")]
    Bench(Bench),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ping {
    /// How many
    #[arg(short, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Seconds between two
    #[arg(short, default_value_t = 1.0, value_name = "S", value_parser = seconds)]
    pub(crate) interval: f64,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("program").required(true).args(["argv", "sh"]))]
pub(crate) struct Exec {
    /// On a terminal of its own; without a terminal here, of 24 rows and 80 columns
    #[arg(short)]
    pub(crate) terminal: bool,
    /// No standard input: /dev/null there
    #[arg(short)]
    pub(crate) no_input: bool,
    /// The working directory there, absolute or relative to the server user's home
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Add to the environment there; repeatable
    #[arg(long, value_name = "K=V", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// End it after so many seconds
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) timeout: Option<f64>,
    /// A text for /bin/sh -c
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) sh: Option<String>,
    /// The program and its arguments, without a shell; options for reactorctl stand before it
    #[arg(trailing_var_arg = true, value_name = "PROG")]
    pub(crate) argv: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    /// Files here (LOCAL), and last their place there (REMOTE)
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Make missing directories there
    #[arg(short, long)]
    pub(crate) parents: bool,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// Files there (REMOTE), and last their place here (LOCAL)
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: How,
}

/// What both directions know.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Take directories with all below them
    #[arg(short)]
    pub(crate) recursive: bool,
    /// Go on where an earlier try stopped, and reconnect when the line breaks
    #[arg(long)]
    pub(crate) resume: bool,
    /// Replace what is there
    #[arg(long)]
    pub(crate) replace: bool,
    /// Compare BLAKE3 checksums of both sides
    #[arg(long)]
    pub(crate) verify: bool,
}

/// The longest time that is understood, in seconds: ten years.
const MAX_SECONDS: f64 = 315_360_000.0;

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=MAX_SECONDS).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds, such as 2.5".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_after_the_program_are_the_programs() {
        let args = Args::try_parse_from(["reactorctl", "exec", "ls", "-l", "--json"]).unwrap();
        assert!(!args.json);
        let Verb::Exec(exec) = args.verb else { panic!("not exec") };
        assert_eq!(exec.argv, ["ls", "-l", "--json"]);
    }

    #[test]
    fn a_program_or_a_text_and_not_both() {
        for bad in [
            &["exec"][..],
            &["exec", "--sh", "x", "--", "y"],
            &["exec", "--env", "=x", "y"],
            &["exec", "--timeout", "x", "y"],
        ] {
            assert!(Args::try_parse_from(["reactorctl"].iter().chain(bad)).is_err(), "{bad:?}");
        }
    }
}
