//! Options as written, and the settings they become.

use super::*;
use std::time::Duration;

fn target(options: serde_json::Value) -> Target {
    let options = options.as_object().unwrap().clone();
    Target {
        url: "kafka://127.0.0.1:9092".into(),
        timeout: Duration::from_secs(1),
        run: 1,
        options,
        ..Target::default()
    }
}

#[test]
fn addresses_are_taken_apart() {
    let mut t = target(serde_json::json!({}));
    t.url = "kafka://user%40x:p%2Cw@a:1,b".into();
    let s = KafkaOptions::read(&t).unwrap().common(&t).unwrap();
    for (key, value) in [("bootstrap.servers", "a:1,b:9092"), ("sasl.username", "user@x"), ("sasl.password", "p,w")] {
        assert_eq!(s[key], value);
    }
    t.url = "SASL_SSL://a:1".into();
    let told = KafkaOptions::read(&t).unwrap().common(&t).unwrap_err().to_string();
    assert!(told.contains("not by SASL_SSL://"), "{told}");
    assert_eq!(without_credentials("kafka://me:secret@a:1/"), "kafka://a:1");
}

#[test]
fn an_option_that_does_not_fit_is_an_error_that_names_it() {
    let told = |v: serde_json::Value| KafkaOptions::check(v.as_object().unwrap()).unwrap_err();
    let acks = told(serde_json::json!({ "acks": 2 }));
    assert_eq!(acks, "option `acks`: it is 0, 1 or \"all\", not \"2\"");
    let linger = told(serde_json::json!({ "linger": 0 }));
    assert!(linger.starts_with("option `linger`: 0 has no unit of time: write \"0s\""), "{linger}");
    let raw = told(serde_json::json!({ "raw": { "linger.mz": 1 } }));
    assert!(raw.starts_with("option `raw`: ") && raw.contains("linger.mz"), "{raw}");
    let partitioner = told(serde_json::json!({ "partitioner": "mumur" }));
    assert!(partitioner.starts_with("option `partitioner`: "), "{partitioner}");
    let variable = serde_json::json!({ "sasl": { "user": "u", "password-env": "NOT_SET_ANYWHERE" } });
    assert!(told(variable).starts_with("option `sasl`: NOT_SET_ANYWHERE"));
}

#[test]
fn options_exclude_each_other_where_kafka_does() {
    let told = |v| KafkaOptions::read(&target(v)).unwrap_err().to_string();
    assert!(told(serde_json::json!({ "idempotence": true, "acks": 1 })).contains("idempotence needs acks"));
    assert!(told(serde_json::json!({ "exactly-once": "transactional", "acks": 0 })).contains("transactions need"));
    let sasl = serde_json::json!({ "sasl": { "user": "me" } });
    let options = KafkaOptions::read(&target(sasl.clone())).unwrap();
    assert!(options.common(&target(sasl)).unwrap_err().to_string().contains("password-env"));
}

#[test]
fn what_share_groups_and_the_new_protocol_do_not_have_is_named() {
    for (options, says) in [
        (serde_json::json!({ "share": { "batch": 10 } }), "option `share`: it is for consumers = \"share\""),
        (serde_json::json!({ "consumers": "share", "share": { "batch": 0 } }), "batch: 0 is not between 1 and 100000"),
        (serde_json::json!({ "consumers": "share", "share": { "lock-duration": "10us" } }), "at least \"1ms\""),
        (serde_json::json!({ "consumers": "share", "share": { "lock": "1s" } }), "unknown field `lock`"),
        (
            serde_json::json!({ "consumers": "share", "assignor": "range" }),
            "option `assignor`: members of share groups",
        ),
        (serde_json::json!({ "consumers": "share", "static-members": true }), "option `static-members`: members of"),
        (serde_json::json!({ "consumers": "share", "commit": "sync" }), "option `commit`: members of share groups"),
        (serde_json::json!({ "consumers": "share", "exactly-once": "transactional" }), "consumers in groups"),
        (serde_json::json!({ "consumers": "share", "group-protocol": "consumer" }), "option `group-protocol`: only"),
        (serde_json::json!({ "consumers": "assign", "group-protocol": "consumer" }), "option `group-protocol`: only"),
        (serde_json::json!({ "assignor": "range", "group-protocol": "consumer" }), "the broker assigns"),
    ] {
        let told = KafkaOptions::check(options.as_object().unwrap()).unwrap_err();
        assert!(told.contains(says), "{options}: {told}");
    }
    let share = serde_json::json!({ "consumers": "share" });
    let mut w = crate::driver::kafka::tests::workload();
    assert_eq!(KafkaOptions::suit(share.as_object().unwrap(), std::slice::from_ref(&w)), Ok(()));
    w.topology.reply = true;
    let told = KafkaOptions::suit(share.as_object().unwrap(), &[w]).unwrap_err();
    assert!(told.contains("share groups answer nothing"), "{told}");
}

#[test]
fn what_producers_of_our_own_do_not_have_is_named() {
    for (key, value) in [
        ("acks", serde_json::json!(0)),
        ("idempotence", serde_json::json!(true)),
        ("compression", serde_json::json!("lz4")),
        ("partitioner", serde_json::json!("murmur2")),
        ("exactly-once", serde_json::json!("transactional")),
    ] {
        let options = serde_json::json!({ "producers": "wire", key: value });
        let told = KafkaOptions::check(options.as_object().unwrap()).unwrap_err();
        assert!(told.contains(&format!("option `{key}`: producers = \"wire\" do not have that")), "{told}");
    }
    let options = serde_json::json!({ "producers": "wire", "compression": "none", "linger": "2ms" });
    let options = options.as_object().unwrap();
    let (mut w, rules) =
        (crate::driver::kafka::tests::workload(), KafkaOptions::from_map(options).unwrap().batch_rules());
    assert_eq!((rules.acks, rules.linger, rules.size), (-1, 2_000_000, 1_000_000));
    assert_eq!(KafkaOptions::suit(options, std::slice::from_ref(&w)), Ok(()));
    w.delivery.keys = crate::plan::Keys::RoundRobin(3);
    let told = KafkaOptions::suit(options, std::slice::from_ref(&w)).unwrap_err();
    assert!(told.contains("has keys"), "{told}");
    w.topology.reply = true;
    w.delivery.keys = crate::plan::Keys::None;
    assert!(KafkaOptions::suit(options, &[w]).unwrap_err().contains("has answers"));
}

#[test]
fn the_new_protocol_leaves_sessions_to_the_broker() {
    let w = crate::driver::kafka::tests::workload();
    let of = |options| {
        let t = target(options);
        KafkaOptions::read(&t).unwrap().settings(ClientKind::Consumer, &t, &w).unwrap()
    };
    let classic = of(serde_json::json!({}));
    assert!(classic.contains_key("session.timeout.ms") && !classic.contains_key("group.protocol"));
    let new = of(serde_json::json!({ "group-protocol": "consumer" }));
    assert_eq!(new["group.protocol"], "consumer");
    assert!(!new.contains_key("session.timeout.ms"), "librdkafka refuses it: {new:?}");
}

#[test]
#[cfg(not(feature = "kafka-tls"))]
fn a_build_without_openssl_says_how_to_get_it() {
    let told = |v| KafkaOptions::read(&target(v)).unwrap_err().to_string();
    assert!(told(serde_json::json!({ "tls": {} })).contains("--features kafka-tls"));
    let scram = serde_json::json!({ "sasl": { "mechanism": "SCRAM-SHA-256", "user": "u", "password": "p" } });
    assert!(told(scram).contains("--features kafka-tls"));
}

#[test]
fn options_become_settings_and_raw_wins() {
    let t = target(serde_json::json!({
        "acks": 1, "compression": "zstd", "linger": "500us", "batch-size": "64KiB", "commit": "sync",
        "assignor": "cooperative-sticky", "isolation": "read-uncommitted", "broker": { "nodes": 3 },
        "sasl": { "user": "me", "password": "pw" }, "raw": { "linger.ms": 7, "sasl.password": "other" },
    }));
    let options = KafkaOptions::read(&t).unwrap();
    let mut plan = crate::driver::kafka::tests::workload();
    let s = options.settings(ClientKind::Producer, &t, &plan).unwrap();
    for (key, value) in [
        ("bootstrap.servers", "127.0.0.1:9092"),
        ("acks", "1"),
        ("compression.type", "zstd"),
        ("linger.ms", "7"),
        ("batch.size", "65536"),
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanisms", "PLAIN"),
        ("sasl.username", "me"),
    ] {
        assert_eq!(s[key], value, "{key}");
    }
    assert!(!s.contains_key("message.max.bytes"));
    assert!(options.raw().any(|pair| pair == ("raw sasl.password".into(), "(not recorded)".into())));
    plan.payload.size = crate::plan::PayloadSize::Fixed(Bytes(1 << 20));
    let s = options.settings(ClientKind::Consumer, &t, &plan).unwrap();
    assert_eq!(s["enable.auto.commit"], "false");
    assert_eq!(s["partition.assignment.strategy"], "cooperative-sticky");
    assert_eq!(s["isolation.level"], "read_uncommitted");
    assert_eq!(s["message.max.bytes"], ((1 << 20) + 4096).to_string());
    assert_eq!(options.topic_settings(&plan)["max.message.bytes"], ((1 << 20) + 4096).to_string());
}

#[test]
fn what_consumers_of_our_own_do_not_have_is_named() {
    for (key, value) in [
        ("assignor", serde_json::json!("range")),
        ("static-members", serde_json::json!(true)),
        ("group-protocol", serde_json::json!("consumer")),
        ("share", serde_json::json!({ "batch": 10 })),
    ] {
        let options = serde_json::json!({ "consumers": "wire", key: value });
        let told = KafkaOptions::check(options.as_object().unwrap()).unwrap_err();
        assert!(told.contains(&format!("option `{key}`: ")), "{told}");
    }
    let options = serde_json::json!({ "consumers": "wire", "compression": "zstd", "commit": "sync" });
    let options = options.as_object().unwrap();
    let w = crate::driver::kafka::tests::workload();
    assert_eq!(KafkaOptions::suit(options, std::slice::from_ref(&w)), Ok(()));
    let told = |change: &dyn Fn(&mut Workload)| {
        let mut other = w.clone();
        change(&mut other);
        KafkaOptions::suit(options, &[w.clone(), other]).unwrap_err()
    };
    assert!(told(&|w| w.topology.reply = true).contains("has responders"));
    assert!(told(&|w| w.delivery.reject_every = 3).contains("has rejected messages"));
    let several = told(&|w| w.topology.members = 4);
    assert!(several.contains("groups of 4 consumers") && several.ends_with("use \"group\""), "{several}");
}
