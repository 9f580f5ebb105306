//! Requests that have been carried out and may not be answered yet.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::reply::{Reply, ReplySlot};
use super::fetch_wait::FetchWait;
use super::produce_wait::ProduceWait;
use crate::broker::log::{SyncTicket, WakeSignal};

/// A request in a connection's queue.
pub(in crate::broker::kafka) enum Pending {
    /// Answered at once.
    Ready(Option<Reply>),
    /// Waits for its records to be synced.
    Produce(ProduceWait),
    /// Waits for records.
    Fetch(FetchWait),
    /// Waits for the other members of its group.
    Group(Arc<ReplySlot>, Instant),
    /// Waits for offsets, or what else these are of, to be synced: the answer if they are, and if
    /// they are not.
    Commit(Vec<SyncTicket>, Instant, Option<Box<(Reply, Reply)>>),
}

fn late(deadline: Instant) -> bool {
    Instant::now() >= deadline
}

impl Pending {
    /// The answer, if it is ready; otherwise `wake_signal` is rung when it is worth asking again.
    pub(in crate::broker::kafka) fn poll(&mut self, wake_signal: &Arc<WakeSignal>) -> Option<Reply> {
        match self {
            Self::Ready(reply) => Some(reply.take().unwrap_or_default()),
            Self::Produce(wait) => wait.poll(wake_signal),
            Self::Fetch(wait) => wait.poll(wake_signal),
            // The coordinator is to answer long before; what never comes is no answer.
            Self::Group(slot, deadline) => slot.take().or_else(|| late(*deadline).then(Reply::default)),
            Self::Commit(tickets, deadline, replies) => {
                let mut kept = true;
                while let Some(ticket) = tickets.last().filter(|_| kept) {
                    kept = ticket.poll(wake_signal).or_else(|| late(*deadline).then_some(false))?;
                    tickets.pop();
                }
                let (good, bad) = *replies.take()?;
                Some(if kept { good } else { bad })
            }
        }
    }

    /// Bytes of the answer, if it was ready from the beginning.
    pub(in crate::broker::kafka) fn ready_len(&self) -> usize {
        match self {
            Self::Ready(reply) => reply.as_ref().map_or(0, Reply::len),
            _ => 0,
        }
    }

    /// When it is to be asked again at the latest.
    pub(in crate::broker::kafka) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Ready(_) => None,
            Self::Produce(wait) => Some(wait.deadline),
            Self::Fetch(wait) => Some(wait.deadline),
            Self::Group(_, deadline) | Self::Commit(_, deadline, _) => Some(*deadline),
        }
    }

    /// Whether it is worth waiting for at the end.
    pub(in crate::broker::kafka) fn is_brief(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Produce(_) | Self::Commit(..))
    }
}
