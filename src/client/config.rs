//! Where the server is and which token opens it: flags first, then the
//! environment, then the defaults. It opens no connection.

use crate::client::error::{ClientError, Result, reason};
use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// The port where none is given.
pub const DEFAULT_PORT: u16 = 8899;

/// The server where none is named.
pub const DEFAULT_HOST: &str = "127.0.0.1:8899";

/// The longest token file that is read, in bytes; a token has 64 digits.
const MAX_TOKEN_FILE: u64 = 1_024;

/// A server's address: a name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name or address; IPv6 without brackets.
    pub name: String,
    /// The port.
    pub port: u16,
}

impl Host {
    /// Reads `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT` or a bare IPv6 address.
    pub fn parse(text: &str) -> Result<Host> {
        let wrong = |why: &str| {
            let shown = crate::client::text::visible(text);
            Err(ClientError::Usage(format!("\"{shown}\" is no server address: {why}; expected HOST:PORT or [V6]:PORT")))
        };
        let (name, port) = if let Some(rest) = text.strip_prefix('[') {
            let Some((name, rest)) = rest.split_once(']') else { return wrong("the bracket is not closed") };
            if name.split('%').next().is_none_or(|address| address.parse::<Ipv6Addr>().is_err()) {
                return wrong("no IPv6 address stands in the brackets");
            }
            match rest.strip_prefix(':') {
                Some(port) => (name, Some(port)),
                None if rest.is_empty() => (name, None),
                None => return wrong("something other than :PORT follows the bracket"),
            }
        } else if text.parse::<Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            }
        };
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
            return wrong("the host's name is missing or malformed");
        }
        let port = match port.map(str::parse::<u16>) {
            None => DEFAULT_PORT,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return wrong("the port is no number from 1 to 65535"),
        };
        Ok(Host { name: name.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// A token and where it came from. Debug output does not show the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The secret, or none where the default file does not exist: the server
    /// may want none.
    pub secret: Option<String>,
    /// For error messages: which file or variable, or what is missing.
    pub origin: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.secret.as_ref().map(|_| "...");
        f.debug_struct("Token").field("secret", &secret).field("origin", &self.origin).finish()
    }
}

/// What a connection needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The server.
    pub host: Host,
    /// What to authenticate with.
    pub token: Token,
    /// The nick to ask for; the server gives one where there is none.
    pub nick: Option<String>,
}

/// What the command line said; what it did not say comes from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--host`.
    pub host: Option<String>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
    /// `--nick`.
    pub nick: Option<String>,
}

impl Config {
    /// Settles everything; `env` reads the environment.
    pub fn resolve(flags: Flags, env: impl Fn(&str) -> Option<OsString>) -> Result<Config> {
        // An empty variable counts as unset, as with most programs.
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let text = |name: &str| match env(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(ClientError::Usage(format!("{name} is not UTF-8"))),
        };
        let host = match flags.host {
            Some(host) => host,
            None => text("REACTOR_HOST")?.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
        };
        let token = if let Some(path) = flags.token_file {
            token_from(&path, "--token-file ")?
        } else if let Some(secret) = text("REACTOR_TOKEN")? {
            checked(&secret, "the environment's REACTOR_TOKEN".to_owned())?
        } else if let Some(path) = env("REACTOR_TOKEN_FILE") {
            token_from(Path::new(&path), "REACTOR_TOKEN_FILE=")?
        } else {
            default_token(&env)?
        };
        Ok(Config { host: Host::parse(&host)?, token, nick: flags.nick })
    }
}

/// The server's default place for the token, below the XDG state directory
/// (XDG Base Directory Specification: a relative path in the variable counts
/// as unset).
fn default_token(env: &impl Fn(&str) -> Option<OsString>) -> Result<Token> {
    let state = env("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let Some(state) = state.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".local/state"))) else {
        let origin = "no token was sent, because neither HOME nor XDG_STATE_HOME says where it is; use --token-file";
        return Ok(Token { secret: None, origin: origin.to_owned() });
    };
    let path = state.join("reactord/token");
    if !path.exists() {
        let origin = format!("no token was sent, because {} does not exist; use --token-file", path.display());
        return Ok(Token { secret: None, origin });
    }
    token_from(&path, "")
}

fn token_from(path: &Path, named_by: &str) -> Result<Token> {
    let fail =
        |why: String| ClientError::Token(format!("cannot read the token from {named_by}{}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|e| fail(reason(&e)))?;
    let mut text = String::new();
    file.take(MAX_TOKEN_FILE + 1).read_to_string(&mut text).map_err(|e| fail(reason(&e)))?;
    if text.len() as u64 > MAX_TOKEN_FILE {
        return Err(fail(format!("it is over {MAX_TOKEN_FILE} bytes long, so it is no token file")));
    }
    checked(&text, format!("{named_by}{}", path.display()))
}

fn checked(text: &str, place: String) -> Result<Token> {
    let secret = text.trim();
    if secret.is_empty() || !secret.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ClientError::Token(format!("{place} holds no token: expected 64 hexadecimal digits")));
    }
    Ok(Token { secret: Some(secret.to_owned()), origin: format!("the token came from {place}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn host(text: &str) -> String {
        Host::parse(text).unwrap().to_string()
    }

    fn env(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + use<> {
        let map: HashMap<String, OsString> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        move |name| map.get(name).cloned()
    }

    #[test]
    fn every_way_to_write_an_address() {
        assert_eq!(host("box"), "box:8899");
        assert_eq!(host("box:1"), "box:1");
        assert_eq!(host("[::1]"), "[::1]:8899");
        assert_eq!(host("[::1]:7"), "[::1]:7");
        assert_eq!(host("::1"), "[::1]:8899");
        assert_eq!(host("fe80::1"), "[fe80::1]:8899");
        assert_eq!(host("[fe80::1%eth0]:7"), "[fe80::1%eth0]:7");
        for bad in ["", ":1", "a:", "a:0", "a:65536", "a:b", "[::1", "[::1]x", "[box]:1", "a b", "http://a", "1:2:3"] {
            assert!(matches!(Host::parse(bad), Err(ClientError::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t");
        std::fs::write(&file, "aa\n").unwrap();
        std::fs::create_dir_all(dir.path().join("reactord")).unwrap();
        std::fs::write(dir.path().join("reactord/token"), "cc\n").unwrap();
        let state = ("XDG_STATE_HOME", dir.path().to_str().unwrap());
        let all = [("REACTOR_TOKEN", "bb"), ("REACTOR_HOST", "other:1"), state];

        let flags = Flags { host: Some("flag".into()), token_file: Some(file), nick: None };
        let config = Config::resolve(flags, env(&all)).unwrap();
        assert_eq!((config.host.to_string().as_str(), config.token.secret.as_deref()), ("flag:8899", Some("aa")));

        let config = Config::resolve(Flags::default(), env(&all)).unwrap();
        assert_eq!((config.host.to_string().as_str(), config.token.secret.as_deref()), ("other:1", Some("bb")));

        let config = Config::resolve(Flags::default(), env(&[state])).unwrap();
        assert_eq!((config.host.to_string().as_str(), config.token.secret.as_deref()), (DEFAULT_HOST, Some("cc")));
    }

    #[test]
    fn a_missing_default_token_is_no_error_and_a_missing_named_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let config = Config::resolve(Flags::default(), env(&[("HOME", home)])).unwrap();
        assert_eq!(config.token.secret, None);
        assert!(config.token.origin.contains(".local/state/reactord/token does not exist"), "{}", config.token.origin);
        let named = Flags { token_file: Some(dir.path().join("none")), ..Flags::default() };
        assert!(matches!(Config::resolve(named, env(&[])), Err(ClientError::Token(_))));
    }

    #[test]
    fn a_token_is_never_shown() {
        let config = Config::resolve(Flags::default(), env(&[("REACTOR_TOKEN", "5ecret")])).unwrap();
        assert!(!format!("{config:?}").contains("5ecret"));
        let bad = Config::resolve(Flags::default(), env(&[("REACTOR_TOKEN", "5ecret\u{1}")])).unwrap_err();
        assert!(!bad.to_string().contains("5ecret"));
    }
}
