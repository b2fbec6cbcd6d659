//! Where the server listens: from what was asked to bound sockets.

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

/// Connections that the kernel completes while the server is busy elsewhere.
const BACKLOG: i32 = 4_096;

/// After this silence a peer is asked whether it is still there.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);

/// Then each such time, until the kernel gives it up.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Unsent bytes that the kernel holds for a socket before it calls it full:
/// enough to keep a LAN busy, and all that a stalled reader pins beyond what
/// is on its way.
const NOTSENT_LOWAT: u32 = 256 << 10;

/// The same while a long file is sent. Its bytes are in the page cache anyway,
/// and larger pieces are an eighth more throughput; other frames of the same
/// connection wait behind as many bytes, so it is not more than this.
const NOTSENT_LOWAT_OF_FILES: u32 = 512 << 10;

/// How often a free port is looked for that all addresses have free.
const PORT_ATTEMPTS: usize = 16;

/// Why the server cannot listen.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// What was asked for makes no sense; the sentence says why.
    Usage(String),
    /// The system refused an address.
    Bind(SocketAddr, io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) => f.write_str(why),
            Self::Bind(address, e) if e.kind() == ErrorKind::AddrInUse => {
                write!(f, "{address} is in use: end the other server, or choose another port")
            }
            Self::Bind(address, e) => write!(f, "cannot listen on {address}: {e}"),
        }
    }
}

impl std::error::Error for ListenError {}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address; port 0 takes any free one.
    pub socket: SocketAddr,
    /// Whether it is skipped where this machine lacks it.
    pub optional: bool,
}

/// Whether only this machine can reach an address; `::ffff:127.0.0.1` is
/// loopback too.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The loopback addresses, for when nothing else was asked for.
pub fn default_addresses(port: u16) -> Vec<Address> {
    vec![
        Address { socket: (Ipv4Addr::LOCALHOST, port).into(), optional: false },
        Address { socket: (Ipv6Addr::LOCALHOST, port).into(), optional: true },
    ]
}

/// The addresses that `text` names: `HOST:PORT`, `[V6]:PORT`, or a host alone
/// with `default_port`.
pub fn parse(text: &str, default_port: u16) -> Result<Vec<Address>, ListenError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![Address { socket: (ip, default_port).into(), optional: false }]);
    }
    let usage = |why: &str| ListenError::Usage(format!("address `{text}`: {why}: expected HOST:PORT or [V6]:PORT"));
    let with_port = if text.contains(':') { text.to_owned() } else { format!("{text}:{default_port}") };
    let found: Vec<_> = with_port
        .to_socket_addrs()
        .map_err(|e| usage(&e.to_string()))?
        .map(|socket| Address { socket, optional: false })
        .collect();
    if found.is_empty() { Err(usage("it names no address")) } else { Ok(found) }
}

/// Binds all of `addresses` on one port.
pub fn bind_all(addresses: &[Address]) -> Result<Vec<TcpListener>, ListenError> {
    let mut ports = addresses.iter().map(|address| address.socket.port());
    let port = ports.next().unwrap_or(0);
    if ports.any(|other| other != port) {
        return Err(ListenError::Usage("all addresses must have the same port".into()));
    }
    let mut attempt = 1;
    loop {
        match bind_on_one_port(addresses) {
            // Another program may have the port that the first address was given.
            Err(ListenError::Bind(_, e))
                if port == 0 && e.kind() == ErrorKind::AddrInUse && attempt < PORT_ATTEMPTS =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

fn bind_on_one_port(addresses: &[Address]) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for address in addresses {
        let mut socket = address.socket;
        if let Some(first) = listeners.first() {
            socket.set_port(first.local_addr().map_err(|e| ListenError::Bind(socket, e))?.port());
        }
        match bind(socket) {
            Ok(listener) => listeners.push(listener),
            Err(e) if address.optional && is_lacking(&e) => log::debug!("{socket}: skipped: {e}"),
            Err(e) => return Err(ListenError::Bind(socket, e)),
        }
    }
    Ok(listeners)
}

/// Whether this machine has no such address or address family.
fn is_lacking(e: &io::Error) -> bool {
    e.kind() == ErrorKind::AddrNotAvailable || e.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Binds and listens.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Each family has a listener of its own, so that both may share a port.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Without it connections are less comfortable, and served all the same.
    if let Err(e) = set_for_connections(&socket) {
        log::warn!("{address}: cannot set a socket option: {e}");
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets on a listener what every connection is to have: Linux makes an
/// accepted socket as a copy of its listener, so that it costs no call then.
fn set_for_connections(listener: &Socket) -> io::Result<()> {
    listener.set_tcp_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    listener.set_tcp_keepalive(&keepalive)?;
    listener.set_tcp_notsent_lowat(NOTSENT_LOWAT)
}

/// Sets how much a socket holds unsent, while it sends a long file or not.
pub fn send_long_file(stream: &impl AsFd, begins: bool) -> io::Result<()> {
    SockRef::from(stream).set_tcp_notsent_lowat(if begins { NOTSENT_LOWAT_OF_FILES } else { NOTSENT_LOWAT })
}

/// What an attempt to accept brought.
#[derive(Debug)]
pub enum Accepted<S> {
    /// A connection, with the other side's address.
    Connection(S, SocketAddr),
    /// Nobody is waiting, where the listener does not block.
    Blocked,
    /// That attempt failed, the next may not.
    Failed(io::Error),
    /// There is no descriptor or no memory for another connection.
    Exhausted(io::Error),
}

/// What the result of accept(2) means.
pub fn accepted<S>(result: io::Result<(S, SocketAddr)>) -> Accepted<S> {
    match result {
        Ok((stream, peer)) => Accepted::Connection(stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Accepted::Blocked,
        Err(e) => match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Accepted::Exhausted(e),
            // Errors of the one connection that is gone already (accept(2)).
            _ => Accepted::Failed(e),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_loopback_addresses_are_loopback_too() {
        for (text, loopback) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:10.0.0.1", false),
            ("0.0.0.0", false),
            ("::", false),
        ] {
            assert_eq!(is_loopback(text.parse().unwrap()), loopback, "{text}");
        }
    }

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        let socket = |text| parse(text, 8899).unwrap()[0].socket.to_string();
        assert_eq!(socket("127.0.0.1:5"), "127.0.0.1:5");
        assert_eq!(socket("127.0.0.1"), "127.0.0.1:8899");
        assert_eq!(socket("[::1]:5"), "[::1]:5");
        assert_eq!(socket("[::1]"), "[::1]:8899");
        assert_eq!(socket("::1"), "[::1]:8899");
        for bad in ["", "127.0.0.1:x", "127.0.0.1:70000", "[::1", ":::::"] {
            assert!(matches!(parse(bad, 1), Err(ListenError::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn all_addresses_share_the_port_that_was_free() {
        let listeners = bind_all(&default_addresses(0)).unwrap();
        let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
    }

    #[test]
    fn an_accepted_connection_has_what_its_listener_was_given() {
        for listener in bind_all(&default_addresses(0)).unwrap() {
            let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let socket = SockRef::from(&accepted);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_TIME);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT);
        }
    }

    #[test]
    fn a_port_in_use_is_said_to_be() {
        let listeners = bind_all(&default_addresses(0)).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        let error = bind_all(&default_addresses(port)).unwrap_err().to_string();
        assert!(error.contains("is in use"), "{error}");
    }
}
