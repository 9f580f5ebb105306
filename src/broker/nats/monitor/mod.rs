//! The monitoring pages of nats-server, as its dashboards read them: `/varz`, `/connz`, `/subsz`,
//! `/routez`, `/healthz`.
//!
//! Field names, types and units are nats-server's. Off unless an address is given. Everybody who
//! can reach the address can read who is connected, so it is meant for loopback or a network of
//! one's own.
//!
//! Invariants: a request has a bound on its size and time, a connection on its requests, the pages
//! on their connections; a page is built from counters that are read once, without holding up a
//! message.

mod connz;
mod http;
mod pages;
mod words;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::hub::{NatsHub, Phase};
use crate::units::{Nanos, now};
use http::{HttpReply, HttpRequest};

/// Connections served at once; a further one is closed without a word.
const CONNECTIONS: usize = 32;

/// What the pages need to know beyond the hub.
struct Monitor {
    hub: Arc<NatsHub>,
    address: SocketAddr,
    /// One instant on both clocks.
    start: (SystemTime, Nanos),
    /// Requests by path.
    asked: Mutex<BTreeMap<&'static str, u64>>,
    /// When the CPU time was last read, and what it was, and the percentage since the reading
    /// before.
    cpu: Mutex<(Nanos, Nanos, f64)>,
}

impl Monitor {
    /// The wall clock at an instant of the monotonic one.
    fn wall(&self, at: Nanos) -> SystemTime {
        self.start.0 + std::time::Duration::from_nanos(at.saturating_sub(self.start.1))
    }

    fn answer(&self, request: &HttpRequest) -> HttpReply {
        let page = match request.path.as_str() {
            "/" => "/",
            "/varz" => "/varz",
            "/connz" => "/connz",
            "/subsz" | "/subscriptionsz" => "/subsz",
            "/routez" => "/routez",
            "/healthz" => "/healthz",
            _ => return HttpReply::text(404, "404 page not found\n"),
        };
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner).entry(page).or_default() += 1;
        let built = match page {
            "/" => return HttpReply::html(pages::ROOT),
            "/varz" => Ok(pages::varz(self)),
            "/connz" => connz::connz(self, request),
            "/subsz" => connz::subsz(self, request),
            "/routez" => Ok(pages::routez(self)),
            _ => {
                let serving = *self.hub.phase.borrow() == Phase::Serving;
                return HttpReply::json(if serving { 200 } else { 503 }, pages::healthz(serving), None);
            }
        };
        match built {
            Ok(json) => HttpReply::json(200, json, request.option("callback")),
            Err(words) => HttpReply::text(400, &words),
        }
    }
}

/// Serves the pages until it is dropped.
pub(super) async fn serve(hub: Arc<NatsHub>, listener: TcpListener, address: SocketAddr) {
    let start = now();
    let monitor = Arc::new(Monitor {
        hub,
        address,
        start: (SystemTime::now(), start),
        asked: Mutex::default(),
        cpu: Mutex::new((start, words::cpu_time(), 0.0)),
    });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = tokio::task::JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Out of descriptors, or a client that has gone again: both pass.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        while open.try_join_next().is_some() {}
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let monitor = Arc::clone(&monitor);
            open.spawn(async move {
                http::serve_connection(socket, |request| monitor.answer(request)).await;
                drop(place);
            });
        }
    }
}
