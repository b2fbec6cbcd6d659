//! The operator's console as the loop sees it: requests come in as values,
//! answers and deliveries go out, and nothing waits.

use super::Reactor;
use crate::console::Port;
use crate::console::port::{Client, Event, MAX_CLIENTS, Request};
use crate::proto::rooms::Op;
use crate::proto::{ConnId, Input};
use crate::wire::reply::LeaveReason;

/// Requests taken in one turn before the others' turn.
const REQUEST_BUDGET: usize = 64;

impl Reactor {
    /// What makes the loop look at its port, from any thread.
    pub fn waker(&self) -> impl Fn() + Send + use<> {
        super::wake(&self.waker)
    }

    /// Lets the operator in.
    pub fn attach_console(&mut self, port: Port) {
        self.rooms.admit_operator(ConnId::OPERATOR);
        self.conns.operator = Some(port);
    }

    /// Does what the operator asks.
    pub(super) fn run_console(&mut self) {
        for _ in 0..REQUEST_BUDGET {
            let Some(port) = &self.conns.operator else { return };
            match port.poll() {
                Ok(Some(request)) => self.operator_asks(request),
                Ok(None) => return,
                Err(_ended) => return self.operator_leaves(LeaveReason::Left),
            }
        }
        // There may be more.
        (self.waker())();
    }

    fn operator_asks(&mut self, request: Request) {
        let answer = match request {
            Request::Room(op) => Event::Room(self.rooms.apply(self.now, ConnId::OPERATOR, op, &mut self.conns)),
            Request::Kick(nick) => Event::Kicked(self.kick(&nick)),
            Request::Clients => Event::Clients(self.clients(), self.conns.len()),
            Request::Stats => Event::Stats(self.stats()),
            Request::Stop => return self.stop(),
        };
        if let Some(port) = &mut self.conns.operator {
            port.answer(answer);
        }
    }

    fn kick(&mut self, nick: &str) -> bool {
        let Some(id) = self.rooms.bearer(nick).filter(|id| *id != ConnId::OPERATOR) else { return false };
        log::info!("the operator ended {nick}'s connection");
        self.feed(id, Input::Kicked);
        true
    }

    fn clients(&self) -> Vec<Client> {
        let client = |conn: &super::Conn| Client {
            nick: self.rooms.nick(conn.id).map(|nick| nick.to_string()),
            address: conn.peer.to_string(),
            rooms: self.rooms.rooms_of(conn.id).map(str::to_owned).collect(),
            queued: conn.out.queue.len() + conn.session.held(),
            since: conn.since,
        };
        self.conns.iter().take(MAX_CLIENTS).map(client).collect()
    }

    /// The console ended, or the server does: dropping the port tells it so.
    pub(super) fn operator_leaves(&mut self, reason: LeaveReason) {
        if self.conns.operator.take().is_some() {
            self.rooms.apply(self.now, ConnId::OPERATOR, Op::Disconnect { reason }, &mut self.conns);
        }
    }
}
