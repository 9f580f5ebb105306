//! The lines that `msgbench broker` prints for its caller.

use std::net::SocketAddr;

use serde_json::json;

use super::args::{BrokerArgs, LineFormat};
use super::{BrokerParts, BrokerTotals, kafka, nanos};
use crate::broker::{Auth, Broker};

/// What the caller reads when clients may connect.
pub(super) fn ready(args: &BrokerArgs, parts: &BrokerParts, workers: usize, files: u64) -> String {
    let config = &parts.config;
    let scheme = if config.tls.is_some() { "tls" } else { "nats" };
    let router: Vec<String> =
        parts.router.iter().flat_map(Broker::local_addrs).map(|at| format!("{scheme}://{at}")).collect();
    let log = parts.log.as_ref().map(|broker| format!("kafka://{}", broker.local_addr()));
    let monitor = parts.router.as_ref().and_then(Broker::monitor_addr).map(|at: SocketAddr| format!("http://{at}"));
    let pid = std::process::id();
    if args.format == LineFormat::Text {
        let urls: Vec<String> = router.into_iter().chain(log).chain(monitor).collect();
        return format!("msgbench broker ready: {} (pid {pid})", urls.join(" "));
    }
    let url = router.first().cloned().or(log);
    let auth = match &config.auth {
        Auth::None => "none",
        Auth::Token(_) => "token",
        Auth::Users(_) => "users",
    };
    let mut policy = json!({
        "max_payload": config.max_payload,
        "max_control_line": config.max_control_line,
        "max_pending": config.max_pending,
        "max_connections": config.max_connections,
        "max_subscriptions": config.max_subscriptions,
        "slow_consumer": config.slow_consumer,
        "write_deadline_ns": nanos(config.write_deadline),
        "ping_interval_ns": nanos(config.ping_interval),
        "ping_max": config.ping_max,
        "auth": auth,
        "auth_timeout_ns": nanos(config.auth_timeout),
        "tls_timeout_ns": nanos(config.tls_timeout),
        "tls": config.tls.is_some(),
        "tls_verify": config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        "workers": workers,
        "open_files": files,
        "storage": "none",
    });
    let of_router = parts.router.as_ref().map(|b| &b.config().fault_options.faults);
    let of_log = parts.log.as_ref().map(|b| &b.config().fault_options.faults);
    if let Some(faults) = of_router.into_iter().chain(of_log).find(|faults| faults.any()) {
        policy["faults"] = faults.to_string().into();
    }
    if let Some(address) = parts.router.as_ref().and_then(Broker::control_addr) {
        policy["fault_control"] = address.to_string().into();
    }
    if let Some(at) = parts.router.as_ref().and_then(Broker::websocket_addr) {
        policy["websocket"] = format!("{}://{at}", if config.tls.is_some() { "wss" } else { "ws" }).into();
    }
    if let Some(storage) = parts.router.as_ref().and_then(|broker| broker.config().jetstream.as_ref()) {
        policy["storage"] = "streams".into();
        policy["streams"] = storage.dir.display().to_string().into();
        policy["sync"] = kafka::typed(args.jetstream_sync.0).into();
    }
    if let Some(monitor) = monitor {
        policy["monitor"] = monitor.into();
    }
    if router.len() > 1 {
        policy["listen"] = router.into();
    }
    if let (Some(policy), Some(broker)) = (policy.as_object_mut(), &parts.log) {
        policy.extend(args.log.policy(broker));
    }
    json!({"event": "ready", "url": url, "pid": pid, "version": env!("CARGO_PKG_VERSION"), "policy": policy})
        .to_string()
}

/// What the caller reads at the end.
pub(super) fn closing(format: LineFormat, served: &BrokerTotals) -> String {
    let router = served.router.as_ref().map(|counters| counters.totals());
    let log = served.log.as_ref().map(|counters| counters.totals());
    if format == LineFormat::Json {
        let mut line = json!({"event": "closed"});
        line["counters"] = json!(router);
        if log.is_some() {
            line["kafka"] = json!(log);
        }
        return line.to_string();
    }
    let router = router.map(|totals| {
        format!(
            "{} connections, {} messages in ({} B), {} messages out ({} B), {} dropped, {} slow consumers",
            totals.connections,
            totals.messages_in,
            totals.bytes_in,
            totals.messages_out,
            totals.bytes_out,
            totals.dropped,
            totals.slow_consumers
        )
    });
    let log = log.map(|totals| {
        format!(
            "kafka: {} connections, {} requests, {} records in ({} B), {} B out",
            totals.connections, totals.requests, totals.records_in, totals.bytes_in, totals.bytes_out
        )
    });
    let parts: Vec<String> = router.into_iter().chain(log).collect();
    format!("msgbench broker closed: {}", parts.join("; "))
}
