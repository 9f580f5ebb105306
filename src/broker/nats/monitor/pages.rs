//! The pages about the server as a whole.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::SystemTime;

use serde::Serialize;

use super::super::info::PROTOCOL_VERSION;
use super::Monitor;
use super::words;
use crate::units::{SECOND, now};

/// What a browser sees first.
pub(super) const ROOT: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>msgbench broker</title></head><body>\n\
    <a href=\"./varz\">General</a><br>\n<a href=\"./connz\">Connections</a><br>\n\
    <a href=\"./subsz\">Subscriptions</a><br>\n<a href=\"./routez\">Routes</a><br>\n\
    <a href=\"./healthz\">Health Probe</a>\n</body></html>\n";

/// As nats-server lays it out. A page of numbers and texts always serialises; an empty one would
/// say so by itself.
pub(super) fn pretty(page: &impl Serialize) -> String {
    serde_json::to_string_pretty(page).unwrap_or_default()
}

/// An object without fields: what nats-server says of a part that is off.
#[derive(Serialize)]
struct DisabledPart {}

#[derive(Serialize)]
struct LinkCounts {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

impl LinkCounts {
    /// There are no links but those of clients.
    fn of_clients(clients: u64) -> Self {
        Self { clients, routes: 0, gateways: 0, leafs: 0 }
    }
}

/// Waits for a disk, which the router does not have.
#[derive(Serialize)]
struct DiskWaits {
    waiters: u64,
    waits: u64,
    wait_time: u64,
    max_wait_time: u64,
}

fn is_false(b: &bool) -> bool {
    !*b
}

#[derive(Serialize)]
struct Varz<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    proto: u8,
    go: &'a str,
    host: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "is_false")]
    auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    max_connections: usize,
    max_subscriptions: usize,
    ping_interval: u64,
    ping_max: u32,
    http_host: String,
    http_port: u16,
    http_base_path: &'a str,
    https_port: u16,
    auth_timeout: f64,
    max_control_line: usize,
    max_payload: usize,
    max_pending: usize,
    cluster: DisabledPart,
    gateway: DisabledPart,
    leaf: DisabledPart,
    mqtt: DisabledPart,
    websocket: DisabledPart,
    jetstream: DisabledPart,
    tls_timeout: f64,
    write_deadline: u64,
    start: String,
    now: String,
    uptime: String,
    mem: u64,
    cores: usize,
    gomaxprocs: usize,
    cpu: f64,
    connections: u64,
    total_connections: u64,
    routes: u64,
    remotes: u64,
    leafnodes: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    in_client_msgs: u64,
    in_client_bytes: u64,
    out_client_msgs: u64,
    out_client_bytes: u64,
    slow_consumers: u64,
    stale_connections: u64,
    stalled_clients: u64,
    subscriptions: u64,
    http_req_stats: BTreeMap<&'static str, u64>,
    config_load_time: String,
    config_digest: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    feature_flags: BTreeMap<&'static str, bool>,
    slow_consumer_stats: LinkCounts,
    stale_connection_stats: LinkCounts,
    disk_io_wait_stats: DiskWaits,
}

fn nanos(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The share of a core used lately, in percent: since the last reading that is at least a second
/// old.
fn cpu(monitor: &Monitor) -> f64 {
    let mut last = monitor.cpu.lock().unwrap_or_else(PoisonError::into_inner);
    let (at, used) = (now(), words::cpu_time());
    let passed = at.saturating_sub(last.0);
    if passed >= SECOND {
        *last = (at, used, (used.saturating_sub(last.1) as f64 / passed as f64 * 1000.0).round() / 10.0);
    }
    last.2
}

/// `/varz`: the settings in force and all totals.
pub(super) fn varz(monitor: &Monitor) -> String {
    let hub = &monitor.hub;
    let (config, info, totals) = (&hub.config, &hub.info, hub.counters.totals());
    let (begun, at) = (words::instant(monitor.start.0), now());
    pretty(&Varz {
        server_id: &info.server_id,
        server_name: &config.server_name,
        version: PROTOCOL_VERSION,
        proto: 1,
        go: "none",
        host: &info.host,
        port: info.port,
        auth_required: info.auth_required,
        tls_required: config.tls.is_some() && !config.tls_optional,
        tls_verify: config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        max_connections: config.max_connections,
        max_subscriptions: config.max_subscriptions,
        ping_interval: nanos(config.ping_interval),
        ping_max: config.ping_max,
        http_host: monitor.address.ip().to_string(),
        http_port: monitor.address.port(),
        http_base_path: "",
        https_port: 0,
        auth_timeout: config.auth_timeout.as_secs_f64(),
        max_control_line: config.max_control_line,
        max_payload: config.max_payload,
        max_pending: config.max_pending,
        cluster: DisabledPart {},
        gateway: DisabledPart {},
        leaf: DisabledPart {},
        mqtt: DisabledPart {},
        websocket: DisabledPart {},
        jetstream: DisabledPart {},
        tls_timeout: config.tls_timeout.as_secs_f64(),
        write_deadline: nanos(config.write_deadline),
        start: begun.clone(),
        now: words::instant(SystemTime::now()),
        uptime: words::uptime(at.saturating_sub(monitor.start.1)),
        mem: words::memory(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        gomaxprocs: tokio::runtime::Handle::current().metrics().num_workers(),
        cpu: cpu(monitor),
        connections: totals.open,
        total_connections: totals.connections,
        routes: 0,
        remotes: 0,
        leafnodes: 0,
        in_msgs: totals.messages_in,
        out_msgs: totals.messages_out,
        in_bytes: totals.payload_in,
        out_bytes: totals.payload_out,
        // All traffic is that of clients.
        in_client_msgs: totals.messages_in,
        in_client_bytes: totals.payload_in,
        out_client_msgs: totals.messages_out,
        out_client_bytes: totals.payload_out,
        slow_consumers: totals.slow_consumers,
        stale_connections: totals.stale,
        stalled_clients: totals.stalls,
        subscriptions: totals.subscriptions,
        http_req_stats: monitor.asked.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        config_load_time: begun,
        // Of a file of settings; there is none.
        config_digest: "",
        feature_flags: BTreeMap::new(),
        slow_consumer_stats: LinkCounts::of_clients(totals.slow_consumers),
        stale_connection_stats: LinkCounts::of_clients(totals.stale),
        disk_io_wait_stats: DiskWaits { waiters: 0, waits: 0, wait_time: 0, max_wait_time: 0 },
    })
}

#[derive(Serialize)]
struct Routez<'a> {
    server_id: &'a str,
    server_name: &'a str,
    now: String,
    num_routes: u64,
    routes: [DisabledPart; 0],
}

/// `/routez`: there are none.
pub(super) fn routez(monitor: &Monitor) -> String {
    pretty(&Routez {
        server_id: &monitor.hub.info.server_id,
        server_name: &monitor.hub.config.server_name,
        now: words::instant(SystemTime::now()),
        num_routes: 0,
        routes: [],
    })
}

/// `/healthz`: whether clients may connect.
pub(super) fn healthz(serving: bool) -> String {
    if serving {
        return r#"{"status":"ok"}"#.to_owned();
    }
    r#"{"status":"unavailable","status_code":503,"error":"the server is about to end and takes no new clients"}"#
        .to_owned()
}
