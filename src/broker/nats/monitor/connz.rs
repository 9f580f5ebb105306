//! The pages about connections and subscriptions one by one.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use serde::Serialize;

use super::super::connection_table::ConnectionEntry;
use super::super::index::Subscription;
use super::http::HttpRequest;
use super::pages::pretty;
use super::{Monitor, words};
use crate::units::{Nanos, now};

/// Entries of a page, unless the request says otherwise.
const LIMIT: usize = 1024;

/// The one account there is, as nats-server calls it.
const ACCOUNT: &str = "$G";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[derive(Serialize)]
struct SubDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_tag: Option<&'static str>,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    qgroup: Option<String>,
    sid: String,
    msgs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
    cid: u64,
}

impl SubDetail {
    fn of(sub: &Subscription, account: Option<&'static str>) -> Self {
        let max = sub.max.load(Ordering::Relaxed);
        Self {
            account,
            // An account without a tag is tagged with its name.
            account_tag: account,
            subject: text(&sub.subject),
            qgroup: sub.queue.as_deref().map(text),
            sid: text(&sub.sid),
            msgs: sub.delivered.load(Ordering::Relaxed),
            max: (max > 0).then_some(max),
            cid: sub.outlet.id,
        }
    }
}

#[derive(Serialize)]
struct ConnInfo {
    cid: u64,
    kind: &'static str,
    #[serde(rename = "type")]
    of_type: &'static str,
    ip: String,
    port: u16,
    start: String,
    last_activity: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    rtt: String,
    uptime: String,
    idle: String,
    pending_bytes: usize,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    subscriptions: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tls_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tls_cipher_suite: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    authorized_user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_tag: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubDetail>,
    /// For sorting: when it began, when it was last active, and the round trip.
    #[serde(skip)]
    times: (Nanos, Nanos, Nanos),
}

impl ConnInfo {
    fn of(monitor: &Monitor, member: &ConnectionEntry, auth: bool) -> Self {
        let traffic = &member.outlet.traffic;
        let (received, sent) = (traffic.received.load(), traffic.sent.load());
        let (at, said) = (now(), member.description());
        let active = traffic.active.load(Ordering::Relaxed).max(member.start);
        let rtt = traffic.rtt.load(Ordering::Relaxed);
        Self {
            cid: member.outlet.id,
            kind: "Client",
            of_type: "nats",
            ip: member.client_ip.clone(),
            port: member.port,
            start: words::instant(monitor.wall(member.start)),
            last_activity: words::instant(monitor.wall(active)),
            rtt: if rtt == 0 { String::new() } else { words::span(rtt) },
            uptime: words::uptime(at.saturating_sub(member.start)),
            idle: words::uptime(at.saturating_sub(active)),
            pending_bytes: member.outlet.pending(),
            in_msgs: received.messages,
            out_msgs: sent.messages,
            in_bytes: received.payload,
            out_bytes: sent.payload,
            subscriptions: traffic.subscriptions.load(Ordering::Relaxed),
            name: said.name,
            lang: said.lang,
            version: said.version,
            tls_version: member.tls.as_ref().map_or_else(String::new, |tls| tls.version.to_owned()),
            tls_cipher_suite: member.tls.as_ref().map_or_else(String::new, |tls| tls.cipher.clone()),
            authorized_user: member.user.get().filter(|_| auth).cloned().unwrap_or_default(),
            name_tag: auth.then_some(ACCOUNT),
            subscriptions_list: Vec::new(),
            subscriptions_list_detail: Vec::new(),
            times: (member.start, active, rtt),
        }
    }
}

/// A number in the query, or `default`.
fn number(request: &HttpRequest, name: &str, default: usize) -> Result<usize, String> {
    match request.option(name) {
        None | Some("") => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("{name} is `{text}`, which is no number from 0 on\n")),
    }
}

/// Whether something is asked for: `1` or `true`.
fn asked(request: &HttpRequest, name: &str) -> bool {
    matches!(request.option(name).map(str::to_ascii_lowercase).as_deref(), Some("1" | "true"))
}

fn sort(list: &mut [ConnInfo], by: &str) -> Result<(), String> {
    match by {
        "" | "cid" => list.sort_by_key(|c| c.cid),
        "start" => list.sort_by_key(|c| c.times.0),
        "uptime" => list.sort_by_key(|c| Reverse(c.times.0)),
        "last" => list.sort_by_key(|c| Reverse(c.times.1)),
        "idle" => list.sort_by_key(|c| c.times.1),
        "rtt" => list.sort_by_key(|c| Reverse(c.times.2)),
        "subs" => list.sort_by_key(|c| Reverse(c.subscriptions)),
        "pending" => list.sort_by_key(|c| Reverse(c.pending_bytes)),
        "msgs_to" => list.sort_by_key(|c| Reverse(c.out_msgs)),
        "msgs_from" => list.sort_by_key(|c| Reverse(c.in_msgs)),
        "bytes_to" => list.sort_by_key(|c| Reverse(c.out_bytes)),
        "bytes_from" => list.sort_by_key(|c| Reverse(c.in_bytes)),
        other => return Err(format!("Invalid sorting option: {other}\n")),
    }
    Ok(())
}

#[derive(Serialize)]
struct Connz<'a> {
    server_id: &'a str,
    now: String,
    num_connections: usize,
    total: usize,
    offset: usize,
    limit: usize,
    connections: Vec<ConnInfo>,
}

/// `/connz`: open connections. Those that have ended are not kept, so `state=closed` shows none.
pub(super) fn connz(monitor: &Monitor, request: &HttpRequest) -> Result<String, String> {
    let offset = number(request, "offset", 0)?;
    let limit = match number(request, "limit", LIMIT)? {
        0 => LIMIT,
        limit => limit,
    };
    let only = match request.option("cid") {
        None => None,
        Some(_) => Some(number(request, "cid", 0)? as u64),
    };
    let closed = match request.option("state").map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "open" | "any" | "all") => false,
        Some("closed") => true,
        Some(other) => return Err(format!("Error decoding state for {other}\n")),
    };
    let auth = asked(request, "auth") || request.option("user").is_some();
    let members: Vec<Arc<ConnectionEntry>> = if closed { Vec::new() } else { monitor.hub.connections.members() };
    let wanted = members.iter().filter(|member| only.is_none_or(|id| member.outlet.id == id));
    let mut connections: Vec<ConnInfo> = wanted.map(|member| ConnInfo::of(monitor, member, auth)).collect();
    if let Some(user) = request.option("user") {
        connections.retain(|c| c.authorized_user == user);
    }
    sort(&mut connections, request.option("sort").unwrap_or_default())?;
    let total = connections.len();
    let mut connections: Vec<ConnInfo> = connections.into_iter().skip(offset).take(limit).collect();
    let detail = request.option("subs").is_some_and(|subs| subs.eq_ignore_ascii_case("detail"));
    if detail || asked(request, "subs") {
        for connection in &mut connections {
            let subs = monitor.hub.index.all(|sub| sub.outlet.id == connection.cid);
            match detail {
                true => {
                    connection.subscriptions_list_detail = subs.iter().map(|sub| SubDetail::of(sub, None)).collect();
                }
                false => connection.subscriptions_list = subs.iter().map(|sub| text(&sub.subject)).collect(),
            }
        }
    }
    Ok(pretty(&Connz {
        server_id: &monitor.hub.info.server_id,
        now: words::instant(SystemTime::now()),
        num_connections: connections.len(),
        total,
        offset,
        limit,
        connections,
    }))
}

#[derive(Serialize)]
struct Subsz {
    num_subscriptions: u64,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: f64,
    max_fanout: u64,
    avg_fanout: f64,
}

#[derive(Serialize)]
struct SubszDetail<'a> {
    server_id: &'a str,
    now: String,
    #[serde(flatten)]
    totals: Subsz,
    total: usize,
    offset: usize,
    limit: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<SubDetail>,
}

/// `/subsz`: subscriptions. Each connection remembers its own routes, so there is no common cache
/// to tell of: its numbers are 0.
pub(super) fn subsz(monitor: &Monitor, request: &HttpRequest) -> Result<String, String> {
    let (num_inserts, num_removes) = monitor.hub.index.changes();
    let totals = Subsz {
        num_subscriptions: monitor.hub.counters.totals().subscriptions,
        num_cache: 0,
        num_inserts,
        num_removes,
        num_matches: 0,
        cache_hit_rate: 0.0,
        max_fanout: 0,
        avg_fanout: 0.0,
    };
    let (offset, limit) = (number(request, "offset", 0)?, number(request, "limit", LIMIT)?);
    let test = request.option("test").filter(|subject| !subject.is_empty());
    let reached =
        |sub: &Subscription| test.is_none_or(|s| crate::broker::nats::subject::matches(&sub.subject, s.as_bytes()));
    let mut all = if asked(request, "subs") { monitor.hub.index.all(reached) } else { Vec::new() };
    all.sort_by(|a, b| (a.outlet.id, &a.sid).cmp(&(b.outlet.id, &b.sid)));
    let page = all.iter().skip(offset).take(limit);
    Ok(pretty(&SubszDetail {
        server_id: &monitor.hub.info.server_id,
        now: words::instant(SystemTime::now()),
        totals,
        total: all.len(),
        offset,
        limit,
        subscriptions_list: page.map(|sub| SubDetail::of(sub, Some(ACCOUNT))).collect(),
    }))
}
