//! Carrying out what a session asks for, under its connection's lock.

use super::conn::{Conn, State};
use super::lock;
use super::post::Post;
use super::server::Server;
use crate::proto::exec::ChildEvent;
use crate::proto::{Effect, Input, Now};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the effects of one connection are carried out before what it has
/// to say is sent and others may look after it. Only to start a command takes
/// more than microseconds, and one read brings a thousand requests for that.
const EFFECTS_TIME: Duration = Duration::from_millis(2);

impl Server {
    /// Carries out a session's effects until it has none, or the time for that
    /// is over: then its writer goes on with them.
    pub(super) fn settle(self: &Arc<Self>, conn: &Arc<Conn>, state: &mut State, now: Now, post: &mut Post) {
        // Held from one room operation to the next, so that what a client says
        // at once reaches the others at once.
        let mut chat = None;
        let (mut was_in_chat, mut has_spawned) = (false, false);
        while let Some(effect) = state.out.effects.pop_front() {
            if !matches!(effect, Effect::Room(_)) {
                chat = None;
            }
            let input = match effect {
                Effect::Room(op) => {
                    was_in_chat = true;
                    let chat = chat.get_or_insert_with(|| lock(&self.chat));
                    let reply = chat.rooms.apply(now, conn.id, op, &mut post.deliver(self, conn.id));
                    // What others said before stands before the answer, and
                    // while the rooms are locked nothing later can come.
                    self.take_inbox(conn, state, now);
                    Input::Room(reply)
                }
                Effect::Spawn(spawn) => {
                    let nick = lock(&self.chat).rooms.nick(conn.id).cloned();
                    let nick = nick.as_deref().unwrap_or("-");
                    has_spawned = true;
                    Input::Spawned(self.spawn(conn, state, now, nick, *spawn))
                }
                Effect::Job(job, effect) => match self.commands.effect(conn, state, now.instant, job, effect) {
                    0 => continue,
                    // Nobody will take it.
                    dropped => Input::Child(job, ChildEvent::InputTaken(dropped)),
                },
                Effect::Jobs => Input::Jobs(self.commands.jobs_json(conn.id)),
                Effect::Kill(job, signal) => Input::Killed(self.commands.kill(job, signal)),
                Effect::Disk(request) => {
                    lock(&self.disk).submit(conn.id, request);
                    continue;
                }
                Effect::Stats => Input::Stats(self.stats()),
            };
            state.tell(now, input);
            if has_spawned && now.instant.elapsed() > EFFECTS_TIME {
                post.call(conn);
                break;
            }
        }
        if state.out.effects.is_empty() {
            // An idle connection keeps no buffer.
            state.out.effects = Default::default();
        }
        if was_in_chat {
            let mut chat = chat.unwrap_or_else(|| lock(&self.chat));
            chat.rooms.flush(&mut post.deliver(self, conn.id));
            chat.save(now.instant, &self.clock);
        }
    }

    /// Gives the session what others put in for it.
    pub(super) fn take_inbox(&self, conn: &Conn, state: &mut State, now: Now) {
        if conn.inbox.bytes() == 0 {
            return;
        }
        let (deliveries, bytes) = conn.inbox.take();
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
        state.had_deliveries = true;
        for delivery in &deliveries {
            state.tell(now, Input::Delivery(delivery));
        }
    }
}
