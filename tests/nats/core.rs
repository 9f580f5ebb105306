//! The nats driver against a real nats-server: credentials, TLS, headers, what goes wrong, and
//! `msgbench run` on it.

use std::path::Path;
use std::time::Duration;

use crate::support::*;
use futures_util::StreamExt;
use msgbench::driver::nats::NatsDriver;
use msgbench::driver::wire::WireDriver;
use msgbench::driver::{ClientSlot, Confirmation, Disposition, Driver, DriverError, Outgoing, Producer, Start, Target};
use serde_json::{Value, json};

const SEAT: ClientSlot = ClientSlot { workload: 0, group: 0, index: 0 };

fn launch(options: Value) -> Option<Server> {
    Server::launch("nats", options)
}

/// Sends 100 messages from a producer to a consumer.
async fn passes(driver: &NatsDriver) {
    let mut reader = driver.consumer(SEAT, Start::Tail).await.unwrap();
    let mut producer = driver.producer(SEAT).await.unwrap();
    send(&mut producer, 0..100).await;
    let mut collector = Collector::new(accept);
    hear(&mut reader, &mut collector, 100, 0).await;
    assert_eq!(collector.texts(), (0..100).map(message).collect::<Vec<_>>());
    producer.close().await.unwrap();
}

#[tokio::test]
async fn every_way_to_prove_who_connects() {
    for (auth, said) in
        [("none", "none"), ("password", "user and password"), ("token", "token"), ("nkey", "nkey"), ("creds", "creds")]
    {
        let Some(server) = launch(json!({ "auth": auth })) else { return };
        let driver =
            NatsDriver::prepare(server.target(json!({})), &workloads("fan-out", "consumers = 1")).await.unwrap();
        assert_eq!(driver.facts().words()["authentication"], said);
        passes(&driver).await;
        if auth != "none" {
            // Nobody gets in without: the test would prove nothing otherwise.
            let error = async_nats::connect(&server.running.url).await.unwrap_err();
            assert!(error.to_string().contains("authorization violation"), "{error}");
        }
    }
}

#[tokio::test]
async fn credentials_may_stand_in_the_address() {
    for auth in ["password", "token"] {
        let Some(server) = launch(json!({ "auth": auth })) else { return };
        let given = |key: &str| server.running.client.get(key).and_then(Value::as_str).map(str::to_owned);
        let who = match auth {
            "password" => format!("{}:{}", given("user").unwrap(), given("password").unwrap()),
            _ => given("token").unwrap(),
        };
        let url = server.running.url.replacen("://", &format!("://{who}@"), 1);
        let target =
            |url: &str| Target { url: url.to_owned(), options: Default::default(), ..server.target(json!({})) };
        let workloads = workloads("fan-out", "consumers = 1");
        passes(&NatsDriver::prepare(target(&url), &workloads).await.unwrap()).await;
        WireDriver::prepare(target(&url), &workloads).await.unwrap();
        let wrong = WireDriver::prepare(target(&server.running.url), &workloads).await.unwrap_err().to_string();
        assert!(wrong.contains("Authorization Violation"), "{wrong}");
    }
}

#[tokio::test]
async fn tls_verifies_the_server_and_where_asked_the_client() {
    for (tls, said) in
        [("server", "on: the client verifies the server"), ("mutual", "on: client and server verify each other")]
    {
        let Some(server) = launch(json!({ "tls": tls })) else { return };
        let driver =
            NatsDriver::prepare(server.target(json!({})), &workloads("fan-out", "consumers = 1")).await.unwrap();
        assert_eq!(driver.facts().words()["tls"], said);
        assert_eq!(server.running.settings["tls_required"], "true");
        passes(&driver).await;
    }
}

/// Who subscribes to everything neither delays nor answers what a connection asks for itself.
#[tokio::test]
async fn a_subscriber_to_everything_costs_no_time() {
    for (driver, options) in [("nats", json!({})), ("jetstream", json!({ "jetstream": true }))] {
        let Some(server) = Server::launch(driver, options) else { return };
        let other = async_nats::connect(&server.running.url).await.unwrap();
        let mut all = other.subscribe(">").await.unwrap();
        other.flush().await.unwrap();
        let target = server.target(json!({}));
        let start = std::time::Instant::now();
        let driver = NatsDriver::prepare(target, &workloads("fan-out", "consumers = 1")).await.unwrap();
        passes(&driver).await;
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        assert!(tokio::time::timeout(TIMEOUT, all.next()).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn messages_carry_the_headers_that_are_asked_for() {
    let Some(server) = launch(json!({})) else { return };
    let client = async_nats::connect(&server.running.url).await.unwrap();
    let mut all = client.subscribe("mb.abcd0123.>").await.unwrap();
    client.flush().await.unwrap();
    for n in [0, 1, 8] {
        let target = server.target(json!({ "headers": n }));
        let driver = NatsDriver::prepare(target, &workloads("fan-out", "consumers = 1")).await.unwrap();
        assert_eq!(driver.facts().words()["message_headers"], n.to_string());
        passes(&driver).await;
        for _ in 0..100 {
            let message = tokio::time::timeout(TIMEOUT, all.next()).await.unwrap().unwrap();
            assert_eq!(message.headers.map_or(0, |h| h.len()), n);
        }
    }
}

#[tokio::test]
async fn requests_are_answered_or_nobody_is_there() {
    let Some(server) = launch(json!({})) else { return };
    let driver = NatsDriver::prepare(server.target(json!({})), &workloads("request-reply", "")).await.unwrap();
    let mut producer = driver.producer(SEAT).await.unwrap();
    producer.send(Outgoing { channel: 0, key: None, payload: b"anybody?", token: 0 }).await.unwrap();
    let mut unanswered = 0;
    let mut sink = |c: Confirmation<'_>| unanswered += u32::from(c == Confirmation::Unanswered);
    tokio::time::timeout(TIMEOUT, producer.confirmed(&mut sink)).await.unwrap().unwrap();
    assert_eq!(unanswered, 1);
    let mut responder = driver.consumer(SEAT, Start::Tail).await.unwrap();
    producer.send(Outgoing { channel: 0, key: None, payload: b"and now?", token: 1 }).await.unwrap();
    let mut collector = Collector::new(|_: &str, _| Disposition::Answer);
    hear(&mut responder, &mut collector, 1, 0).await;
    let mut answer = Vec::new();
    let mut sink = |c: Confirmation<'_>| {
        if let Confirmation::Answered { message, .. } = c {
            answer = message.to_vec();
        }
    };
    tokio::time::timeout(TIMEOUT, producer.confirmed(&mut sink)).await.unwrap().unwrap();
    assert_eq!(answer, b"and now?");
}

/// The words of the error that opening the driver gives.
async fn refused(server: &Server, options: Value) -> String {
    let target = server.target(options);
    let error = tokio::time::timeout(TIMEOUT, NatsDriver::prepare(target, &workloads("fan-out", ""))).await;
    error.unwrap().unwrap_err().to_string()
}

fn says(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "{part:?} is missing in: {words}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_named() {
    let Some(server) = launch(json!({ "auth": "password" })) else { return };
    let remedy = "the server wants other credentials: see the options user and password, token, nkey, creds";
    let words = refused(&server, json!({ "password": "wrong" })).await;
    says(&words, &["cannot connect to nats://127.0.0.1:", "authorization violation", remedy]);
    assert!(!words.contains("wrong"), "no secret is printed: {words}");
    let words = refused(&server, json!({ "user": "nobody" })).await;
    says(&words, &["authorization violation", remedy]);
    let mut target = server.target(json!({}));
    target.options.clear();
    let words = NatsDriver::prepare(target, &workloads("fan-out", "")).await.unwrap_err().to_string();
    says(&words, &["authorization violation", remedy]);

    let Some(server) = launch(json!({ "auth": "nkey" })) else { return };
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.nk");
    std::fs::write(&other, nkeys::KeyPair::new_user().seed().unwrap()).unwrap();
    says(&refused(&server, json!({ "nkey": other })).await, &["authorization violation", remedy]);
    std::fs::write(&other, "no seed").unwrap();
    says(&refused(&server, json!({ "nkey": other })).await, &["cannot connect", remedy]);
    let words = refused(&server, json!({ "nkey": "/no/such/file" })).await;
    says(&words, &["option `nkey`: /no/such/file: No such file", "give the path of a file that can be read"]);

    let Some(server) = launch(json!({ "auth": "creds" })) else { return };
    let words = refused(&server, json!({ "creds": "/no/such/file" })).await;
    says(&words, &["option `creds`: /no/such/file: No such file"]);
    let empty = dir.path().join("empty.creds");
    std::fs::write(&empty, "").unwrap();
    says(&refused(&server, json!({ "creds": empty })).await, &["option `creds`: ", "give the path of a file"]);
}

#[tokio::test]
async fn mistakes_with_certificates_are_named() {
    let Some(server) = launch(json!({ "tls": "mutual" })) else { return };
    let Some(other) = launch(json!({ "tls": "mutual" })) else { return };
    let foreign = &other.running.client;
    let remedy = "option `ca` must name the certificate that signed the server's";
    let words = refused(&server, json!({ "ca": foreign["ca"] })).await;
    says(&words, &["cannot connect to nats://127.0.0.1:", "certificate", remedy]);
    let words = refused(&server, json!({ "cert": foreign["cert"], "key": foreign["key"] })).await;
    says(&words, &[remedy]);
    let mut target = server.target(json!({}));
    target.options.remove("cert");
    target.options.remove("key");
    let words = NatsDriver::prepare(target, &workloads("fan-out", "")).await.unwrap_err().to_string();
    says(&words, &[remedy, "`cert` and `key` one that it accepts"]);
    let words = refused(&server, json!({ "ca": "/no/such.pem" })).await;
    says(&words, &["option `ca`: /no/such.pem: No such file"]);
    let Some(plain) = launch(json!({})) else { return };
    let words = refused(&plain, json!({ "ca": foreign["ca"] })).await;
    says(&words, &["cannot connect", "the server speaks no TLS"]);
}

#[tokio::test]
async fn what_the_user_may_not_do_is_quoted() {
    let users = |permissions: &str| {
        json!({
            "config": [format!("authorization {{ users: [ {{ user: me, password: pw, permissions: {{ {permissions} }} }} ] }}")]
        })
    };
    let login = json!({ "user": "me", "password": "pw" });
    let remedy = "give the user the permission in the server's configuration, or use another user";

    let Some(server) = launch(users("subscribe: { deny: \"mb.>\" }")) else { return };
    let driver = NatsDriver::prepare(server.target(login.clone()), &workloads("fan-out", "")).await.unwrap();
    let words = driver.consumer(SEAT, Start::Tail).await.unwrap_err().to_string();
    says(&words, &["Permissions Violation for Subscription to \"mb.abcd0123.0.*\"", remedy]);

    let Some(server) = launch(users("publish: { deny: \"mb.*.0.>\" }")) else { return };
    let driver = NatsDriver::prepare(server.target(login.clone()), &workloads("fan-out", "")).await.unwrap();
    let mut producer = driver.producer(SEAT).await.unwrap();
    let denied = async {
        for token in 0.. {
            let out = Outgoing { channel: 0, key: None, payload: b"x", token };
            if let Err(error) = producer.send(out).await {
                return error.to_string();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        String::new()
    };
    let words = tokio::time::timeout(TIMEOUT, denied).await.unwrap();
    says(&words, &["Permissions Violation for Publish to \"mb.abcd0123.0.0\"", remedy]);

    // The barrier that follows a subscription is a publish as well; it ends at once and not at its
    // bound.
    let Some(server) = launch(users("publish: { deny: \"mb.barrier.>\" }")) else { return };
    let target = server.target(login);
    let driver = NatsDriver::prepare(target, &workloads("fan-out", "")).await.unwrap();
    let begun = std::time::Instant::now();
    let words = driver.consumer(SEAT, Start::Tail).await.unwrap_err().to_string();
    says(&words, &["Permissions Violation for Publish to \"mb.barrier.", remedy]);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn messages_too_large_are_refused_before_and_while_sending() {
    let Some(server) = launch(json!({ "max-payload": "4KiB" })) else { return };
    let large = workloads("fan-out", "payload = { size = \"4KiB\" }");
    NatsDriver::prepare(server.target(json!({})), &large).await.unwrap();
    let words = NatsDriver::prepare(server.target(json!({ "headers": 2 })), &large).await.unwrap_err().to_string();
    says(&words, &["messages of 4096 B and 72 B of headers", "the server's max_payload is 4096 B", "`max-payload`"]);
    let driver = NatsDriver::prepare(server.target(json!({})), &workloads("fan-out", "")).await.unwrap();
    let mut producer = driver.producer(SEAT).await.unwrap();
    let large = Outgoing { channel: 0, key: None, payload: &[0; 5000], token: 0 };
    let error = producer.send(large).await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused { words } if words.contains("max payload")), "{error}");
    // It concerns that message only.
    producer.send(Outgoing { payload: b"x", ..large }).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_full_or_not_there_is_named() {
    let Some(server) = launch(json!({ "config": ["max_connections: 1"] })) else { return };
    let driver = NatsDriver::prepare(server.target(json!({})), &workloads("fan-out", "")).await;
    let Ok(driver) = driver else { panic!("the first connection is let in") };
    let words = match driver.producer(SEAT).await {
        Err(error) => error.to_string(),
        // Without a connection for administration that stays open the second is the first again.
        Ok(_first) => driver.consumer(SEAT, Start::Tail).await.unwrap_err().to_string(),
    };
    says(&words, &["maximum connections exceeded", "raise max_connections of the server"]);
    let mut target = server.target(json!({}));
    target.url = "nats://127.0.0.1:1".into();
    let words = NatsDriver::prepare(target, &workloads("fan-out", "")).await.unwrap_err().to_string();
    says(&words, &["cannot connect to nats://127.0.0.1:1", "refused", "check that the server runs there"]);
}

#[test]
fn every_shipped_pattern_accounts_for_every_message_on_a_real_server() {
    if crate::needs::nats_server().is_none() {
        return;
    }
    for scenario in ["fanout", "fanin", "queue-group", "request-reply"] {
        let file = format!("scenarios/{scenario}.toml");
        let result = run_file(Path::new(&file), &["--system", "nats", "--rate", "5k/s"]);
        ran(&result, scenario);
        let record = &result.1;
        let ledger = ledger(record, 0);
        assert_eq!(ledger["expected"], ledger["delivered"], "{scenario}: {ledger}");
        promises_are_kept(record, 0);
        assert!(record["trials"][0]["system"]["version"].as_str().unwrap().starts_with("nats-server 2."));
    }
}

#[test]
fn a_cluster_and_encrypted_connections_pass_messages_on() {
    if crate::needs::nats_server().is_none() {
        return;
    }
    let text = "name = \"test\"\nquestion = \"test?\"\n\
                [[system]]\nname = \"cluster\"\ndriver = \"nats\"\noptions = { nodes = 3 }\n\
                [[system]]\nname = \"encrypted\"\ndriver = \"nats\"\noptions = { tls = \"mutual\", auth = \"nkey\", headers = 2 }\n\
                [[workload]]\npattern = \"m-to-n\"\nload = { rate = \"2k/s\" }\n";
    let result = run(text);
    ran(&result, "cluster and encrypted");
    let record = &result.1;
    for i in 0..2 {
        let ledger = ledger(record, i);
        assert_eq!(ledger["expected"], ledger["delivered"], "{ledger}");
        let system = &record["trials"][i]["system"]["guarantees"];
        let cluster = record["trials"][i]["case"] == "cluster";
        assert_eq!(system["nodes"], if cluster { "3" } else { "1" });
        assert_eq!(system["tls_required"].as_str(), (!cluster).then_some("true"), "{system}");
    }
}

#[test]
fn a_system_that_fails_is_named_and_the_others_go_on() {
    let Some(server) = launch(json!({ "auth": "token" })) else { return };
    let text = format!(
        "name = \"test\"\nquestion = \"test?\"\n\
         [[system]]\nname = \"locked\"\ndriver = \"nats\"\nurl = \"{}\"\noptions = {{ token = \"guess\" }}\n\
         [[system]]\ndriver = \"reference\"\n\
         [[workload]]\npattern = \"fan-out\"\nload = {{ rate = \"1k/s\" }}\n",
        server.running.url
    );
    let (output, record) = run(&text);
    assert_eq!(output.status.code(), Some(6));
    let trials = record["trials"].as_array().unwrap();
    let of = |case: &str| trials.iter().find(|t| t["case"] == case).unwrap();
    let failed = &of("locked")["outcome"];
    assert_eq!((&failed["status"], &failed["phase"]), (&json!("failed"), &json!("connect")));
    says(failed["error"].as_str().unwrap(), &["authorization violation", "see the options user and password, token"]);
    assert_eq!(of("reference")["outcome"]["status"], "complete");
}

#[test]
fn options_that_do_not_fit_are_refused_before_anything_starts() {
    for (driver, options, words) in [
        ("nats", "headrs = 1", "option `headrs`: nats has no such option"),
        ("nats", "storage = \"file\"", "option `storage`: nats has no such option"),
        ("jetstream", "storage = \"disk\"", "unknown variant `disk`, expected `file` or `memory`"),
        ("nats", "tls = \"on\"", "unknown variant `on`, expected one of `none`, `server`, `mutual`"),
        ("reference", "nodes = 3", "option `nodes`: reference has no such option"),
    ] {
        let text = format!(
            "name = \"test\"\nquestion = \"test?\"\n[[system]]\nname = \"mine\"\ndriver = \"{driver}\"\noptions = {{ {options} }}\n\
             [[workload]]\npattern = \"fan-out\"\nload = {{ rate = \"1k/s\" }}\n"
        );
        let (output, _) = run(&text);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        says(&said, &["mine: ", words]);
    }
}
