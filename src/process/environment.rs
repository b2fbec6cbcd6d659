//! The environment that commands start from: of the server's own only what an
//! allow-list names, and the user's entry in the password database for what a
//! service manager leaves out.

use nix::unistd::{User, getuid};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The variables that pass from the server to its commands, besides LC_*.
const ALLOWED: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "XDG_RUNTIME_DIR"];

/// Where programs are searched for when the server itself has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// TERM of a terminal whose client did not name one: what nearly every
/// terminal understands.
pub(super) const DEFAULT_TERM: &str = "xterm";

/// What every command's environment begins with.
#[derive(Clone, Debug)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
    home: PathBuf,
}

impl Environment {
    /// The part of the server's own environment that commands may see. Reads
    /// the password database, which may block.
    pub fn from_server() -> Self {
        let user = User::from_uid(getuid()).unwrap_or_else(|e| {
            log::warn!("cannot look up the server's user: {e}");
            None
        });
        Self::new(std::env::vars_os(), user)
    }

    fn new(own: impl Iterator<Item = (OsString, OsString)>, user: Option<User>) -> Self {
        let allowed =
            |name: &OsStr| name.to_str().is_some_and(|name| ALLOWED.contains(&name) || name.starts_with("LC_"));
        let mut variables: Vec<_> = own.filter(|(name, _)| allowed(name)).collect();
        let mut add = |name: &str, value: OsString| {
            if !variables.iter().any(|(known, _)| known == name) {
                variables.push((name.into(), value));
            }
        };
        add("PATH", DEFAULT_PATH.into());
        if let Some(user) = user {
            add("HOME", user.dir.into());
            add("USER", user.name.clone().into());
            add("LOGNAME", user.name.into());
            add("SHELL", user.shell.into());
        }
        let home = variables.iter().find(|(name, _)| name == "HOME").map(|(_, home)| PathBuf::from(home));
        // As login(1) does for a home that is not there.
        let home = home.filter(|home| home.is_absolute() && home.is_dir()).unwrap_or_else(|| "/".into());
        Environment { variables, home }
    }

    /// The variables.
    pub(super) fn variables(&self) -> &[(OsString, OsString)] {
        &self.variables
    }

    /// The user's home, or `/` where that is no directory.
    pub fn home(&self) -> &Path {
        &self.home
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
        environment.variables.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    #[test]
    fn only_what_the_list_allows_passes() {
        let own =
            [("PATH", "/p"), ("HOME", "/"), ("LC_ALL", "C"), ("SECRET", "s"), ("REACTOR_TOKEN", "t"), ("TERM", "x")];
        let own = own.map(|(name, value)| (name.into(), value.into()));
        let environment = Environment::new(own.into_iter(), None);
        let names: Vec<_> = environment.variables.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["PATH", "HOME", "LC_ALL"]);
    }

    #[test]
    fn what_the_server_lacks_comes_from_the_password_database() {
        let user = User::from_uid(getuid()).unwrap();
        let known = user.is_some();
        let environment = Environment::new(std::iter::empty(), user);
        assert_eq!(value(&environment, "PATH"), Some(DEFAULT_PATH.as_ref()));
        for name in ["HOME", "USER", "LOGNAME", "SHELL"] {
            assert_eq!(value(&environment, name).is_some(), known, "{name}");
        }
    }

    #[test]
    fn a_home_that_is_not_there_becomes_the_root() {
        let own = [(OsString::from("HOME"), OsString::from("/nonexistent/home"))];
        assert_eq!(Environment::new(own.into_iter(), None).home(), Path::new("/"));
    }
}
