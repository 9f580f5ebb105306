//! What the outlet and the index are built on: locks, atomics, wake-ups and the socket's writing
//! side. They stand in one place so that `scripts/models` can build the same two files on loom's
//! and try every order of steps.

use std::net::Shutdown;

use socket2::SockRef;
use tokio::net::TcpStream;

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(super) use std::sync::{Mutex, MutexGuard, RwLock};
pub(super) use tokio::net::tcp::OwnedWriteHalf as Socket;
pub(super) use tokio::sync::Notify;
pub(super) use tokio::time::timeout;

/// In how many rounds a committer writes for others too before the writer task goes on; few in a
/// model, which could not reach the end otherwise.
pub(super) const COMMIT_ROUNDS: usize = 4;

/// Closes one or both directions. An error means that the peer has closed already.
pub(super) fn shut(socket: &Socket, how: Shutdown) {
    let stream: &TcpStream = socket.as_ref();
    let _ = SockRef::from(stream).shutdown(how);
}
