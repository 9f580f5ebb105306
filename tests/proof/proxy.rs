//! A TCP proxy that delays what a server sends to a client, by a constant time, on the connections
//! that ask for it.
//!
//! What arrives is stamped at once and written when its time has come, so that many chunks can be
//! on their way and their order is kept. The last stretch of a wait is spent spinning: a sleep
//! would be late by a timer's grain.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// A proxy before `server`. A connection is delayed from the moment its client has sent a line that
/// holds `mark`.
pub struct Proxy {
    pub address: SocketAddr,
}

impl Proxy {
    pub fn start(server: SocketAddr, mark: &'static str, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { return };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let delayed = Arc::new(AtomicBool::new(false));
                let (from, to, seen) = (client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&delayed));
                thread::spawn(move || forward(from, to, mark.as_bytes(), &seen));
                thread::spawn(move || back(server, client, delay, &delayed));
            }
        });
        Self { address }
    }
}

/// Client to server, at once.
fn forward(mut from: TcpStream, mut to: TcpStream, mark: &[u8], delayed: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    // A SUB is sent in one piece with what comes before it, or alone.
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if buffer[..n].windows(mark.len()).any(|part| part == mark) {
            delayed.store(true, Ordering::Release);
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// Server to client, each piece when its time has come.
fn back(mut from: TcpStream, mut to: TcpStream, delay: Duration, delayed: &AtomicBool) {
    let (pieces, due) = channel::<(Instant, Vec<u8>)>();
    let writer = thread::spawn(move || {
        // SAFETY: PR_SET_TIMERSLACK takes one integer and concerns the calling thread only.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
        for (at, piece) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()).saturating_sub(Duration::from_micros(80)));
            while Instant::now() < at {
                std::hint::spin_loop();
            }
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let wait = if delayed.load(Ordering::Acquire) { delay } else { Duration::ZERO };
        if pieces.send((Instant::now() + wait, buffer[..n].to_vec())).is_err() {
            break;
        }
    }
    drop(pieces);
    let _ = writer.join();
}
