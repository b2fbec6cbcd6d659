//! Who may be put under load.

use crate::client::config::Host;
use crate::client::error::{ClientError, Result, reason};
use std::net::{SocketAddr, ToSocketAddrs};

/// The server's address, where it may be put under load.
///
/// A load generator is an attack on whoever did not ask for it, and a typing
/// slip in a host's name is enough; over a network it measures the network
/// besides. So other machines are refused unless `remote` allows them.
///
/// # Errors
/// `Usage` where the address is not on loopback; `Connect` where it has none.
pub fn resolve(host: &Host, remote: bool) -> Result<SocketAddr> {
    let failed = |kind, message: String| ClientError::Connect { host: host.to_string(), kind, message };
    let mut found =
        (host.name.as_str(), host.port).to_socket_addrs().map_err(|e| failed(e.kind(), reason(&e)))?.peekable();
    let Some(&first) = found.peek() else {
        return Err(failed(std::io::ErrorKind::NotFound, "the name has no address".to_owned()));
    };
    if !remote && !found.all(|address| address.ip().to_canonical().is_loopback()) {
        return Err(ClientError::Usage(format!(
            "{host} is not this machine: a load is for servers that are yours; say --yes-remote if this one is"
        )));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str, remote: bool) -> Result<SocketAddr> {
        resolve(&Host::parse(text).unwrap(), remote)
    }

    #[test]
    fn only_this_machine_unless_allowed() {
        assert!(target("127.0.0.1:1", false).is_ok());
        assert!(target("[::1]:1", false).is_ok());
        assert!(target("[::ffff:127.0.0.1]:1", false).is_ok());
        assert!(matches!(target("192.0.2.1:1", false), Err(ClientError::Usage(_))));
        assert!(target("192.0.2.1:1", true).is_ok());
    }
}
